"""What a new user waits for: clone, install, first evaluation, first training step, tests; install size, peak memory.

    python benchmarks/first_run.py --out DIR [--steps 3] [--tests]

Clones this repository's last commit into DIR (which must not exist) and runs the README's commands there, without the
virtual environment that this script runs in.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

from machine import describe

REPOSITORY = Path(__file__).parent.parent


def clean_environment() -> dict[str, str]:
    """The environment without any virtual environment or path of ours."""
    dropped = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
    return {key: value for key, value in os.environ.items() if key not in dropped}


def timed(command: list[str], folder: Path) -> float:
    """Seconds that a command takes. Raises CalledProcessError if it fails."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, env=clean_environment())
    return time.perf_counter() - start


def directory_size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def first_lines(folder: Path, steps: int) -> tuple[dict[str, float], float]:
    """Seconds until the first evaluation and the first step are printed, and the peak memory of the run, MiB."""
    command = [".venv/bin/agentgym", "train", "--env", "alfworld", "--steps", str(steps), "--out", "runs/first"]
    command += ["--eval.num_tasks=200"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=clean_environment())
    seen: dict[str, float] = {}
    assert process.stdout is not None
    for line in process.stdout:
        for mark in ("evaluation after step 0", "step 1/"):
            if line.startswith(mark):
                seen.setdefault(mark, time.perf_counter() - start)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seen, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tests", action="store_true")
    args = parser.parse_args()
    rows = [("clone", f"{timed(['git', 'clone', '-q', str(REPOSITORY), str(args.out)], Path.cwd()):.1f} s")]
    rows.append(("`make install`", f"{timed(['make', 'install'], args.out):.0f} s"))
    rows.append(("size of `.venv`", f"{directory_size(args.out / '.venv') / 2**30:.2f} GiB"))
    seen, peak = first_lines(args.out, args.steps)
    rows += [(f"train until '{mark}' is printed", f"{seconds:.0f} s") for mark, seconds in seen.items()]
    rows.append((f"peak memory of {args.steps} training steps and two evaluations", f"{peak:.0f} MiB"))
    if args.tests:
        rows.append(("`make test`", f"{timed(['make', 'test'], args.out):.0f} s"))
    print(f"{describe()}\n\n| | |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
