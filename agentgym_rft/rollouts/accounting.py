"""Checks that every requested episode came back once, whatever broke, and that every repeat has a counted reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentgym_rft.core import Trajectory
from agentgym_rft.errors import WorkersError

# Fault -> the earlier fault that must have been counted for it to happen.
_CAUSES = {
    "episode_replayed": ("worker_lost", "result_lost"),
    "episode_given_up": ("worker_lost", "result_lost"),
    "reply_repeated": ("worker_lost", "result_lost"),
    "worker_restarted": ("worker_lost",),
    "request_repeated": ("replica_lost",),
    "replica_restarted": ("replica_lost",),
}
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Account:
    """The requested episodes, those that came back, and the faults counted meanwhile.

    `faults` is the sum of what `Workers.take_faults` gave; `pids` are processes of this machine that must be gone.
    """

    requested: Sequence[str]
    trajectories: Sequence[Trajectory]
    faults: Mapping[str, int]
    pids: Iterable[int] = ()


def problems(account: Account, *, patience_s: float = 30.0) -> list[str]:
    """Return a sentence for each count that does not add up; none if all do.

    `patience_s`: how long processes may take to end.
    """
    return [
        *_lost_or_twice(account),
        *_rewarded_errors(account.trajectories),
        *_unexplained(account),
        *(f"Process {pid} still runs." for pid in still_running(account.pids, patience_s)),
    ]


def check(account: Account, *, patience_s: float = 30.0) -> None:
    """Raise `WorkersError` with everything that does not add up."""
    found = problems(account, patience_s=patience_s)
    if found:
        raise WorkersError(" ".join(found))


def still_running(pids: Iterable[int], patience_s: float) -> list[int]:
    """Return the processes that have not ended after some time.
    Ended but not yet waited for counts as ended.
    """
    deadline = time.monotonic() + patience_s
    left = [pid for pid in pids if _runs(pid)]
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if _runs(pid)]
    return left


def _runs(pid: int) -> bool:
    try:
        state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _lost_or_twice(account: Account) -> list[str]:
    wanted = Counter(account.requested)
    came = Counter(trajectory.episode_id for trajectory in account.trajectories)
    found = [f"Episode '{name}' was asked for {n} times." for name, n in wanted.items() if n > 1]
    found += [f"Episode '{name}' never came back." for name in wanted if name not in came]
    found += [f"Episode '{name}' came back {n} times." for name, n in came.items() if n > 1]
    return found + [f"Nobody asked for episode '{name}'." for name in came if name not in wanted]


def _rewarded_errors(trajectories: Sequence[Trajectory]) -> list[str]:
    errored = [trajectory for trajectory in trajectories if trajectory.is_error]
    found = [f"Episode '{each.episode_id}' is an error with rewards." for each in errored if each.rewards]
    unnamed = [each for each in errored if not _error_type(each)]
    return found + [f"Episode '{each.episode_id}' is an error without a type." for each in unnamed]


def _error_type(trajectory: Trajectory) -> str:
    return str(trajectory.info.get("error", {}).get("type", ""))


def _unexplained(account: Account) -> list[str]:
    faults = account.faults
    found = [
        f"{faults[fault]} {fault} were counted, but none of {', '.join(causes)}."
        for fault, causes in _CAUSES.items()
        if faults.get(fault) and not any(faults.get(cause) for cause in causes)
    ]
    given_up = sum(_error_type(trajectory) == "WorkerLost" for trajectory in account.trajectories)
    counted = faults.get("episode_given_up", 0)
    if given_up != counted:
        found.append(f"{given_up} episodes ended as WorkerLost, but {counted} episode_given_up were counted.")
    for kind in ("worker", "replica"):
        lost, restarted = faults.get(f"{kind}_lost", 0), faults.get(f"{kind}_restarted", 0)
        if restarted > lost:
            found.append(f"{restarted} {kind}s were restarted, but only {lost} were lost.")
    return found
