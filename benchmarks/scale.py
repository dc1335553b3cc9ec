"""What the framework costs as it grows: overhead, throughput and memory, as Markdown tables and JSON.

    python benchmarks/scale.py [--only overhead,throughput,memory] [--repeats 3] [--out runs/scale.json]

- overhead: a step's cost beside the environment, in process, in processes and on Ray, against gymnasium's
  AsyncVectorEnv and one Ray actor per environment. No model: a scripted policy says the same at every turn. Ours do all
  that an episode needs (prompt tokens, parsing, checks, turns with their log-probs); the others only step.
- throughput: steps a second against the number of workers, and a model fitted to it.
- memory: resident memory over 10,000 episodes.

The modes of training and the lockstep comparison are in benchmarks/scale_modes.py. A new part is a function in `PARTS`
and one that shows its result. Ray is needed (`pip install 'agentgym-rft[ray]'`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import describe
from scale_memory import memory, show_memory
from scale_overhead import overhead, show_overhead
from scale_throughput import show_throughput, throughput

# A part measures with so many repeats; its result is written as JSON and shown as Markdown.
PARTS: dict[str, tuple[Callable[[int], dict[str, Any]], Callable[[dict[str, Any]], str]]] = {
    "overhead": (overhead, show_overhead),
    "throughput": (throughput, show_throughput),
    "memory": (memory, show_memory),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/scale.json"))
    args = parser.parse_args()
    chosen = args.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--only names {', '.join(sorted(unknown))}; expected some of {', '.join(PARTS)}.")
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in chosen:
        measure, show = PARTS[name]
        result = {"machine": describe(), **measure(args.repeats)}
        print(f"\n## {name}\n\n{result['machine']}\n\n{show(result)}", flush=True)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(results := results | {name: result}, indent=1))


if __name__ == "__main__":
    main()
