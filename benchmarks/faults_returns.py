"""Returns that only rounding tells apart are equal: nothing is learned from them, and no threshold is missed."""

from __future__ import annotations

import functools
from pathlib import Path

from fault_case import Case, agentgym
from fault_runs import QUICK, small_policy
from safetensors.torch import load_file

KIND = "returns"

# One turn, whose reward has parts that are added in another order in each episode: 0.6 or 0.6000000000000001.
SUMS = """
import itertools
from tests.light_switch import LightSwitch

ORDERS = list(itertools.permutations((0.1, 0.2, 0.3)))
NUMBERS = itertools.count()


class Sums(LightSwitch):
    def step(self, action):
        a, b, c = ORDERS[next(NUMBERS) % len(ORDERS)]
        return ".", a + b + c, True, False, self._info()
"""


def teaches_nothing(folder: Path, *, algorithm: str) -> None:
    """All episodes have the return 0.6: the weights stay as they are, to the last bit."""
    (folder / "sums.py").write_text(SUMS)
    policy = small_policy()
    given = ("--env=sums:Sums", "--policy", policy, "--out=run", "--steps=1", f"--algorithm.name={algorithm}")
    more = (*QUICK, "--rollout.group_size=6", "--eval.num_tasks=0", "--trainer.learning_rate=0.1")
    agentgym("train", *given, *more, cwd=folder).ended(0)
    (trained,) = (folder / "run" / "checkpoints").glob("*1/**/model.safetensors")
    before, after = (load_file(path) for path in (policy / "model.safetensors", trained))
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert not any(moved.values()), f"the weights moved by {max(moved.values()):.2g}"


CASES = tuple(
    Case(KIND, f"0.1 + 0.2 + 0.3 in any order, {name}", functools.partial(teaches_nothing, algorithm=name))
    for name in ("grpo", "r3l", "rloo", "dr_grpo", "opmd")
)
