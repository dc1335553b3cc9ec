"""Rules of the environment contract about snapshots."""

from __future__ import annotations

import contextlib
import pickletools
import random
from functools import partial

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check.subject import (
    NUM_STEPS,
    Observed,
    Subject,
    fail,
    record,
    replay,
    require,
    require_equal,
    require_refused,
)
from agentgym_rft.errors import EnvError

_NUM_POINTS = 6
_LONGEST = 25
NO_SNAPSHOTS = "it has no snapshots"


def snapshots_continue_the_episode(subject: Subject) -> str:
    """Check that a snapshot at any point leaves the episode as it is, and goes on alike in this and in a used other
    instance.
    """
    env, _ = subject.new()
    if not env.can_snapshot:
        _refuses_snapshots(env)
        return NO_SNAPSHOTS
    other = subject.make()
    points = random.Random(0)
    for seed in range(_NUM_POINTS):
        _check_point(subject, (env, other), seed, points.randrange(_LONGEST) if seed else 0)
    return f"{_NUM_POINTS} points"


def _check_point(subject: Subject, envs: tuple[TextEnv, TextEnv], seed: int, num_steps: int) -> None:
    """Compare an episode with snapshots at a point with one without; `envs` are two instances."""
    env, other = envs
    actions, seen = record(env, subject.start(env, seed=seed), seed, num_steps + NUM_STEPS)
    cut = min(num_steps, len(actions) - 1)
    future, expected = actions[cut:], seen[cut + 1 :]
    subject.start(env, seed=seed)
    replay(env, actions[:cut])
    snapshot = env.snapshot()
    require(isinstance(snapshot, bytes), f"snapshot gives a {type(snapshot).__name__}, expected bytes.")
    require_equal(expected, replay(env, future), "an episode goes on differently after snapshot was called")
    subject.start(other, subject.tasks()[-1], seed=seed + 1)
    for what, target in (("another instance", other), ("the same instance", env)):
        restored = Observed.from_restore(target, snapshot)
        require_equal(
            [seen[cut].as_restored()],
            [restored],
            f"restore in {what} does not give the observation and info of the snapshot",
        )
        require_equal(expected, replay(target, future), f"a snapshot restored in {what} continues differently")


def _refuses_snapshots(env: TextEnv) -> None:
    try:
        env.snapshot()
    except EnvError:
        return
    fail("can_snapshot is False, but snapshot works; set can_snapshot = True.")


def damaged_snapshots_are_refused(subject: Subject) -> str:
    """Check that bytes that are no snapshot of this environment raise `EnvError`, and no snapshot is a pickle."""
    env, _ = subject.new()
    if not env.can_snapshot:
        return NO_SNAPSHOTS
    snapshot = env.snapshot()
    require(
        not _is_pickle(snapshot), "snapshot is a pickle, which can run code where it is restored; write JSON instead."
    )
    target = subject.make()
    for what, damaged in (("empty", b""), ("foreign", b"no snapshot"), ("truncated", snapshot[: len(snapshot) // 2])):
        require_refused(partial(target.restore, damaged), f"restore of {what} bytes")
    return ""


def _is_pickle(data: bytes) -> bool:
    with contextlib.suppress(ValueError):
        return [opcode.name for opcode, _, _ in pickletools.genops(data)][-1] == "STOP"
    return False
