"""One fault of `faults.py`: what it is called, and how fresh processes of `agentgym` show that it is held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

LONGEST_S = 300.0
ROOT = Path(__file__).parents[1]  # on the import path of every process, for the small environments of the tests


@dataclass(frozen=True)
class Case:
    """A fault and its check, which works in an empty folder and raises `AssertionError` with what it saw instead."""

    kind: str
    name: str
    check: Callable[[Path], None]


@dataclass(frozen=True)
class Finished:
    """How a process ended, and what it wrote."""

    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """Check that this ended with code 2 and one sentence that has these words."""
        self.ended(2, *words)

    def ended(self, code: int, *words: str) -> None:
        """Check the exit code, that stderr has these words, and that nobody saw a traceback."""
        said = f"exit {self.code}, stderr {self.err[-600:]!r}"
        assert "Traceback" not in self.err, said
        assert self.code == code, f"expected exit {code}: {said}"
        missing = [word for word in words if word not in " ".join(self.err.split())]
        assert not missing, f"no {missing} in: {said}"


def agentgym(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = LONGEST_S
) -> Finished:
    """Run the command line in a fresh process of its own session, which is killed as a whole after `timeout_s`."""
    return python("-m", "agentgym_rft", *arguments, cwd=cwd, env=env, timeout_s=timeout_s)


def python(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = LONGEST_S
) -> Finished:
    """Run Python in a fresh process; one that is late is killed with all its children, and the fault is not held."""
    process = begun(*arguments, cwd=cwd, env=env)
    with process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"still running after {timeout_s:.0f} s: {' '.join(map(str, arguments))}") from None
    return Finished(process.returncode, out, err)


def begun(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start Python in a fresh process of its own session."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": f"{cwd}/.state", **(env or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
