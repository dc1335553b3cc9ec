"""Token tables with given probabilities, entropies and advantages, for the tests of entropy controls."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.trainers.algorithms.parts import LossInputs
from agentgym_rft.trainers.batch.table import TokenTable, build_table


def column(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def entropy_table(turns: Sequence[Sequence[int]], *, auxiliary: int = 0, **columns: Sequence[float]) -> TokenTable:
    """A prepared table of one group. `turns` has for each trajectory the number of tokens of each turn; the last
    `auxiliary` trajectories are auxiliary. Column `p` becomes `old_logprobs`; `advantage` is 1 unless given.
    """
    number = 0
    trajectories = []
    for index, lengths in enumerate(turns):
        played = []
        for length in lengths:
            lps = tuple(-0.01 * (number + i + 1) for i in range(length))
            played.append(Turn((1, 2), tuple(range(3, 3 + length)), lps))
            number += length
        trajectories.append(
            Trajectory("t", "g", f"e{index}", tuple(played), StopReason.FAILURE, rewards={"task": float(index)})
        )
    main = len(trajectories) - auxiliary
    group = Group("g", "t", tuple(trajectories[:main]), auxiliary=tuple(trajectories[main:]))
    table, _ = build_table([group], 0, auxiliary=auxiliary > 0)
    counted = 1 - table.token_column("auxiliary").float()
    given = {name: column(values) for name, values in columns.items()}
    if "p" in given:
        given["old_logprobs"] = given.pop("p").log()
    return table.with_columns({"advantage": torch.ones(number), "mask": counted, "counted": counted, **given})


def loss_inputs(logprobs: torch.Tensor, **columns: torch.Tensor) -> LossInputs:
    """Inputs whose ratio is to `old_logprobs`, given or the log-probs themselves; statistics are `<name>_now`."""
    distribution_stats = {
        name.removesuffix("_now"): values for name, values in columns.items() if name.endswith("_now")
    }
    log_ratio = logprobs - columns.get("old_logprobs", logprobs.detach())
    return LossInputs(logprobs, log_ratio, log_ratio.detach(), distribution_stats, columns)
