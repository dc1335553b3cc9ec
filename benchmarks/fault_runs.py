"""Small runs of the light switch, the small environment of the tests, for faults that need one."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from fault_case import Finished, agentgym, python

SWITCH = "tests.light_switch:LightSwitch"
QUICK = (
    *("--rollout.num_tasks=2", "--rollout.group_size=2", "--eval.num_tasks=2"),
    *("--policy.num_threads=1", "--policy.device=cpu", "--policy.max_context=64"),
)
_POLICIES = tempfile.TemporaryDirectory(prefix="fault-policy-")


@functools.cache
def small_policy() -> Path:
    """Return a model directory of a policy for the light switch, which is made once."""
    path = Path(_POLICIES.name) / "model"
    made = f"import pathlib; from tests.light_switch import make_policy; make_policy(pathlib.Path({str(path)!r}))"
    python("-c", made, cwd=path.parent).ended(0)
    return path


def train(folder: Path, *options: str, env: str = SWITCH, code: int = 0) -> Finished:
    """Train for one step in `run`, and return how that ended."""
    given = ("--env", env, "--policy", small_policy(), "--out=run")
    steps = () if any("steps=" in option for option in options) else ("--steps=1",)
    ended = agentgym("train", *given, *steps, *QUICK, *options, cwd=folder)
    ended.ended(code)
    return ended
