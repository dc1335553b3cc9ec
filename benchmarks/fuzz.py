"""Damages every kind of file that the commands read, and demands a result or one sentence: never another exception.

    python benchmarks/fuzz.py [--cases 100000] [--only WORD] [--seed 0] [--case NUMBER]

Each kind runs in a process of its own, so that one that is killed is seen, too. A case may take 20 seconds, and 1 GB
more than any before it. `--only WORD --case NUMBER` repeats one case. The exit code is 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

LONGEST_S, MOST_BYTES = 20, 2**30


class TooLong(BaseException):
    """A case took too long."""


def play(target: Any, num_cases: int, seed: int, only: int | None) -> dict[str, Any]:
    """Mutate the files of a target, one at a time, and count what became of them."""
    from fuzz_mutations import mutated

    counts: Counter[str] = Counter()
    first = ""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")  # where a user's trust in given names is kept
        read = target.make(folder)
        files = [(path, form) for pattern, form in target.files for path in sorted(folder.glob(pattern))]
        good = {path: path.read_bytes() for path, _ in files}
        for path, _ in files:
            read(path)  # what is not damaged can be read
        for number in range(num_cases) if only is None else [only]:
            rng = random.Random(f"{seed} {target.name} {number}")
            path, form = rng.choice(files)
            path.write_bytes(mutated(good[path], form, rng))
            if target.sign is not None:
                target.sign(path)
            outcome, what = judged(read, path)
            counts[outcome] += 1
            if outcome == "failed" and not first:
                first = f"case {number}, {path.relative_to(folder)}: {what}"
            for each, content in good.items():  # a reader may change others
                each.write_bytes(content)
            if only is not None:
                print(f"{outcome}: {what}\n{path.read_bytes()[:300]!r}")
    return {"counts": counts, "first": first}


def judged(read: Any, path: Path) -> tuple[str, str]:
    """Return read, refused or failed, and what was said."""
    from fuzz_targets import Foreign, Refused

    from agentgym_rft.errors import AgentGymError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(LONGEST_S)
    try:
        read(path)
        outcome, what = "read", ""
    except (AgentGymError, Refused) as error:
        what = " ".join(str(error).split())
        outcome = "refused" if what else "failed"
    except Foreign as error:
        outcome, what = "failed", str(error)
    except (Exception, TooLong) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "agentgym_rft" in frame.filename]
        place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        outcome, what = "failed", f"{type(error).__name__}: {error}"[:300] + place
    finally:
        signal.alarm(0)
    if 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) > MOST_BYTES:
        outcome, what = "failed", f"more than {MOST_BYTES:,} bytes: {what}"
    return outcome, what


def every_target() -> tuple[Any, ...]:
    """Return the kinds of files; what reads them is imported only now, after the terminal has an answer."""
    from fuzz_models import MODEL_TARGETS
    from fuzz_targets import TARGETS

    return (*TARGETS, *MODEL_TARGETS)


def child(given: argparse.Namespace) -> None:
    """Play one target and write its counts to stdout."""

    def too_long(*_: object) -> None:
        raise TooLong(f"longer than {LONGEST_S} s")

    signal.signal(signal.SIGALRM, too_long)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    target = next(target for target in every_target() if target.name == given.child)
    if given.case is not None:
        os.environ["AGENTGYM_DEBUG"] = "1"
        play(target, 0, given.seed, given.case)
        return
    with os.fdopen(os.dup(1), "w") as out, open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)  # libraries that are not written in Python print, too
        with redirect_stdout(nothing), redirect_stderr(nothing):
            found = play(target, given.cases, given.seed, None)
        json.dump(found, out)


def main() -> None:
    """Damage files of every kind and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--only", default="", help="kinds with this text in their names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="repeat this one")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given)
        return
    from machine import describe

    print(f"{describe()}\n\n| file | mutated | read | refused | failed | s | first failure |\n{'|---' * 7}|")
    total: Counter[str] = Counter()
    targets = every_target()
    whole = sum(target.weight for target in targets)
    for target in targets:
        if given.only not in target.name:
            continue
        start = time.perf_counter()
        found = in_child(target.name, -(-given.cases * target.weight // whole), given)
        if given.case is not None:
            continue
        counts = Counter(found["counts"])
        total += counts
        numbers = " | ".join(f"{counts[key]:,}" for key in ("read", "refused", "failed"))
        took, first = time.perf_counter() - start, " ".join(found["first"].split()).replace("|", "\\|")
        print(f"| {target.name} | {counts.total():,} | {numbers} | {took:.0f} | {first[:500]} |", flush=True)
    numbers = " | ".join(f"{total[key]:,}" for key in ("read", "refused", "failed"))
    print(f"| all | {total.total():,} | {numbers} | | |")
    raise SystemExit(total["failed"] > 0)


def in_child(name: str, num_cases: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return what the process of one target found; a process that died is a failure."""
    command = [sys.executable, __file__, "--child", name, "--cases", str(num_cases), "--seed", str(given.seed)]
    command += [] if given.case is None else ["--case", str(given.case)]
    done = subprocess.run(command, stdout=None if given.case is not None else subprocess.PIPE, check=False)
    if done.returncode or given.case is not None:
        return {"counts": {"failed": 1}, "first": f"its process ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
