"""Runs `agentgym` once and counts what it computes; `shared_prefixes.py` runs it on two builds of the package.

    python benchmarks/prefix_probe.py train --env alfworld --steps 3 ...

The last line is JSON: processor seconds and token positions, of which `embedded` counts every one that a model took in.
A training run has them by step and phase, and an evaluation as a whole.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

time.perf_counter = time.process_time  # before the package takes it: what it measures are processor seconds

import torch  # noqa: E402

from agentgym_rft.cli.main import run  # noqa: E402
from agentgym_rft.trainers import loop  # noqa: E402

EMBEDDED: list[tuple[float, int]] = []  # when, and how many positions


def count(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
    """Note the positions that an embedding takes in."""
    if isinstance(module, torch.nn.Embedding) and args:
        EMBEDDED.append((time.process_time(), args[0].numel()))


def between(start: float, end: float) -> int:
    """Return the positions that were taken in then."""
    return sum(number for when, number in EMBEDDED if start <= when < end)


def main() -> None:
    """Run the command and print what it took."""
    torch.nn.modules.module.register_module_forward_pre_hook(count)
    steps: list[dict[str, float]] = []
    train_step = loop.train_step

    def counted_step(*args: Any) -> Any:
        start = time.process_time()
        metrics, batch = train_step(*args)
        end = time.process_time()
        middle = start + metrics["time/rollout_s"]
        steps.append(
            {
                "rollout_s": metrics["time/rollout_s"],
                "update_s": metrics["time/update_s"],
                "rollout_embedded": between(start, middle),
                "update_embedded": between(middle, end),
                "sampled": metrics["rollout/generated_tokens"],
                "rows": metrics["tokens/total"],
            }
        )
        return metrics, batch

    loop.train_step = counted_step  # type: ignore[assignment]
    start = time.process_time()
    code = run(sys.argv[1:])
    whole = {
        "code": code,
        "cpu_s": time.process_time() - start,
        "embedded": between(0.0, float("inf")),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": steps,
    }
    print(json.dumps(whole))


if __name__ == "__main__":
    main()
