"""Faults that people met, replayed from fresh processes: strangers' files, broken environments, damage, full disks.

    python benchmarks/faults.py [--only KIND,...] [--match TEXT] [--list]

Each fault is given to `agentgym` as a user would meet it, in an empty folder, and its row says held, or what was seen
instead. The exit code is 1 if one is not held.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fault_case import Case
from machine import describe

KINDS = sorted(path.stem.removeprefix("faults_") for path in Path(__file__).parent.glob("faults_*.py"))


def cases_of(kinds: Sequence[str], text: str) -> list[Case]:
    """Return the faults of these kinds with `text` in their names, in the order of their modules."""
    every = [case for kind in kinds for case in importlib.import_module(f"faults_{kind}").CASES]
    return [case for case in every if text in case.name]


def judged(case: Case) -> str:
    """Return `held`, or what the check of this fault saw."""
    with tempfile.TemporaryDirectory(prefix="fault-") as folder:
        try:
            case.check(Path(folder))
        except AssertionError as error:
            return f"FAILED: {error}"
    return "held"


def main() -> None:
    """Replay the faults and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(KINDS), help=f"kinds, of {', '.join(KINDS)}")
    parser.add_argument("--match", default="", help="only faults with this text in their names")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    given = parser.parse_args()
    cases = cases_of(given.only.split(","), given.match)
    if given.list:
        print("\n".join(f"{case.kind}: {case.name}" for case in cases))
        return
    print(f"{describe()}\n\n| kind | fault | seen | s |\n|---|---|---|---|", flush=True)
    num_failed = 0
    for case in cases:
        start = time.perf_counter()
        seen = judged(case)
        num_failed += seen != "held"
        print(f"| {case.kind} | {case.name} | {seen} | {time.perf_counter() - start:.1f} |", flush=True)
    print(f"\n{len(cases) - num_failed} of {len(cases)} held")
    raise SystemExit(num_failed > 0)


if __name__ == "__main__":
    main()
