"""A training run that is killed with -9 again and again, and what two runs that should be the same differ in.

    python -m tests.trainers.kills CONFIG.json EVENT ...

Each event is one life of the run: it ends by SIGKILL at the start of its event with this number, where events are the
lines of the journal, the updates, the files that are synced to disk, and the rows of metrics. The last life is not
killed. Lives are forked, so that only the first one pays for importing torch. Prints how many were killed, and how many
events the last one had.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentgym_rft.config.run import Config
from agentgym_rft.report.metrics import MetricsWriter, read_metrics
from agentgym_rft.store import checkpoint
from agentgym_rft.store.journal import Journal
from agentgym_rft.store.trajectories import TrajectoryWriter
from agentgym_rft.trainers.learner import group
from agentgym_rft.trainers.loop import train
from tests.light_switch import weights_of

ROOT = Path(__file__).parents[2]


def run_with_kills(config: Config, folder: Path, events: Sequence[int]) -> tuple[int, int]:
    """Lives that ended by SIGKILL, and the number of events of the last life."""
    path = folder / "config.json"
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "tests.trainers.kills", str(path), *map(str, events)]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    num_killed, num_events = output.split()
    return int(num_killed), int(num_events)


def differences(a: Path, b: Path) -> list[str]:
    """What two runs differ in: weights, trajectories, and metrics other than times and counts of what was replayed."""
    found = []
    first, second = (weights_of(max((run / "checkpoints").glob("step-*")) / "model") for run in (a, b))
    found += [name for name in first.keys() | second.keys() if not first[name].equal(second[name])]
    rows, others = ([_timeless(row) for row in read_metrics(run / "metrics.jsonl")] for run in (a, b))
    found += [f"{key} of step {x['step']}" for x, y in zip(rows, others, strict=True) for key in x if x[key] != y[key]]
    names, there = (sorted(path.name for path in (run / "trajectories").iterdir()) for run in (a, b))
    found += [f"files {names} and {there}"] if names != there else []
    read = [[(run / "trajectories" / name).read_bytes() for name in names] for run in (a, b)]
    return found + [name for name, x, y in zip(names, *read, strict=True) if x != y]


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith(("time", "speed/", "resume/"))}


def _live(config: Config, last_event: int | None) -> int:
    """Train until the event, if there is one; returns the number of events."""
    count = [0]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            if count[0] == last_event:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return counted

    def torn(self: Journal, key: str, digest: str, completion: Any) -> None:
        """A kill in the middle of a line leaves a part of it."""
        if count[0] + 1 == last_event:
            os.write(self._file.fileno(), b'["half a li')
        append(self, key, digest, completion)

    append = dying(Journal.append)
    Journal.append = torn
    MetricsWriter.write = dying(MetricsWriter.write)
    TrajectoryWriter.write = dying(TrajectoryWriter.write)
    checkpoint._sync = dying(checkpoint._sync)
    group.columns = dying(group.columns)
    out = Path(config.run.out or "")
    train(config, resume=out if (out / "config.yaml").exists() else None)
    return count[0]


def _forked_life(config: Config, last_event: int | None) -> tuple[int, int]:
    """Exit status and number of events of a life in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(_live(config, last_event)).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return os.waitstatus_to_exitcode(status), int(pipe.read() or 0)


def main() -> None:
    config = Config.model_validate(json.loads(Path(sys.argv[1]).read_text()))
    killed = [_forked_life(config, int(event))[0] for event in sys.argv[2:]]
    status, num_events = _forked_life(config, None)
    if status:
        sys.exit(status)
    print(killed.count(-signal.SIGKILL), num_events)


if __name__ == "__main__":
    main()
