"""Filters of groups, trajectories and tokens; those of entropy controls are in `entropy/filters.py`."""

from __future__ import annotations

from torch import Tensor

from agentgym_rft.trainers.algorithms.advantages import is_constant
from agentgym_rft.trainers.algorithms.parts import Context, TokenFilter
from agentgym_rft.trainers.batch.table import TokenTable


def pivotal_mask() -> TokenFilter:
    """Drop the turns before a trajectory's pivot, which base and distilled trajectory share.

    Dropped tokens leave the denominator. Source: R3L, arXiv 2601.03715 (pivotal credit assignment).
    """

    def fn(table: TokenTable, context: Context) -> Tensor:
        return (table.token_column("position") >= table.token_column("pivot")).float()

    return TokenFilter("pivotal_mask", fn, frozenset({"position", "pivot"}), shrinks_denominator=True)


def without_signal_dropped() -> TokenFilter:
    """Drop groups whose trajectories all have the same return; they leave the denominator.

    Source: the dynamic sampling of DAPO, arXiv 2503.14476 section 3.2.
    """

    def fn(table: TokenTable, context: Context) -> Tensor:
        returns, key = table.trajectory_columns["episode_return"], table.trajectory_group
        return (~is_constant(returns, key, table.num_groups))[table.trajectory].float()

    return TokenFilter("without_signal_dropped", fn, frozenset({"episode_return"}), shrinks_denominator=True)


def only(column: str) -> TokenFilter:
    """Keep the tokens where a column is above 0; the others leave the denominator."""
    return TokenFilter(
        f"only_{column}",
        lambda table, context: (table.token_column(column) > 0).float(),
        frozenset({column}),
        shrinks_denominator=True,
    )
