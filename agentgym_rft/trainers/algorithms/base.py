"""`Algorithm`: a frozen composition of the parts in `parts.py`, and the columns that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from agentgym_rft.core import Group
from agentgym_rft.errors import CheckpointError, ConfigError
from agentgym_rft.trainers.algorithms.distribution_stats import DISTRIBUTION_STATS, VALUE, DistributionStat
from agentgym_rft.trainers.algorithms.parts import (
    Aggregation,
    Coefficient,
    Context,
    Controller,
    Ratio,
    Regularizer,
    RewardShaping,
    Stage,
    Surrogate,
    TokenFilter,
)
from agentgym_rft.trainers.batch.table import TokenTable

AUXILIARY = "auxiliary"  # mask of regularisers that imitate auxiliary trajectories


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One training algorithm, composed of small functions.

    `distribution_stats` adds statistics of the next-token distribution to the known ones. `temperature` replaces the
    sampling temperature of the rollouts. With `learns_labels` the trained actions are those of the environment's expert
    at the states that the policy reached (`trainers/sources/labels.py`).
    """

    name: str
    advantage: Stage
    surrogate: Surrogate
    aggregation: Aggregation
    ratio: Ratio
    reward_shaping: tuple[RewardShaping, ...] = ()
    advantage_transforms: tuple[Stage, ...] = ()
    filters: tuple[TokenFilter, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    controllers: tuple[Controller, ...] = ()
    distribution_stats: tuple[DistributionStat, ...] = ()
    temperature: float | Coefficient | None = None
    min_group_size: int = 1
    learns_labels: bool = False

    def _parts(self) -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
        """Yield the name, needs and provides of every part, in order."""
        for stage in (self.advantage, *self.advantage_transforms):
            yield stage.name, stage.needs, stage.provides
        for keep in self.filters:
            yield keep.name, keep.needs, frozenset()
        yield "ratio", frozenset({self.ratio.anchor}), frozenset()
        yield self.surrogate.name, self.surrogate.needs, frozenset()
        for term in self.regularizers:
            yield term.name, term.needs | term.needs_grad | ({term.mask} if term.mask else frozenset()), frozenset()

    @property
    def needs(self) -> frozenset[str]:
        """Columns that the parts need and no earlier part provides."""
        have: set[str] = set()
        missing: set[str] = set()
        for _, needs, provides in self._parts():
            missing |= needs - have
            have |= provides
        return frozenset(missing)

    @property
    def known_functionals(self) -> Mapping[str, DistributionStat]:
        """Every column of the next-token distribution that it may name."""
        return DISTRIBUTION_STATS | {
            distribution_stat.name: distribution_stat for distribution_stat in self.distribution_stats
        }

    @property
    def _scored(self) -> frozenset[str]:
        needs = [stage.needs for stage in (self.advantage, *self.advantage_transforms)] + [
            keep.needs for keep in self.filters
        ]
        needs += [self.surrogate.needs, *(term.needs for term in self.regularizers)]
        return frozenset[str]().union(*needs)

    @property
    def scored_columns(self) -> frozenset[str]:
        """Columns that a forward pass over the batch must give before the update."""
        return self._scored & (frozenset(self.known_functionals) | {"old_logprobs", VALUE})

    def stats_named(self, names: Iterable[str]) -> tuple[DistributionStat, ...]:
        """Return the distribution statistics among some column names, in a fixed order."""
        known = self.known_functionals
        return tuple(known[name] for name in sorted(set(names)) if name in known)

    @property
    def grad_functionals(self) -> tuple[DistributionStat, ...]:
        """Those that a regulariser differentiates."""
        return self.stats_named(name for term in self.regularizers for name in term.needs_grad)

    @property
    def loss_columns(self) -> frozenset[str]:
        """Columns that its differentiable parts read."""
        return self.surrogate.needs.union(*(term.needs for term in self.regularizers))

    @property
    def needs_reference(self) -> bool:
        """True if a reference policy must score the batch (column `ref_logprobs`)."""
        return "ref_logprobs" in self.needs

    @property
    def needs_teacher(self) -> bool:
        """True if another policy must score the batch (column `teacher_logprobs`), or be compared with."""
        return "teacher_logprobs" in self.needs or self.compares_with_teacher

    @property
    def compares_with_teacher(self) -> bool:
        """True if a statistic compares the whole distribution with the teacher's."""
        return any(stat.uses_teacher for stat in self.distribution_stats)

    @property
    def needs_critic(self) -> bool:
        """True if the model must have a value head (column `value`)."""
        return VALUE in self.needs

    @property
    def uses_auxiliary(self) -> bool:
        """True if it imitates auxiliary trajectories; if not, they never enter the table."""
        return any(term.mask == AUXILIARY for term in self.regularizers)

    def validate(self, available: Iterable[str], group_size: int | None = None) -> None:
        """Raise `ConfigError` that names the part and the first column it lacks, or the group size it needs."""
        have = set(available) | set(self.known_functionals)
        for name, needs, provides in self._parts():
            if missing := sorted(needs - have):
                raise ConfigError(
                    f"Algorithm '{self.name}': '{name}' needs the column '{missing[0]}', which nothing provides."
                )
            have |= provides
        if group_size is not None and group_size < self.min_group_size:
            raise ConfigError(
                f"Algorithm '{self.name}' needs rollout.group_size of at least {self.min_group_size}, not {group_size}."
            )

    def shape(self, group: Group) -> Group:
        """Return the group with the rewards that its `reward_shaping` makes of it."""
        for shaper in self.reward_shaping:
            group = shaper.fn(group)
        return group

    @torch.no_grad()
    def prepare(self, table: TokenTable, context: Context) -> TokenTable:
        """Return the global table with `advantage`, `mask` (trains) and `counted` (is in the denominator) of every
        token.

        Tokens of auxiliary trajectories have neither from the start; only a regulariser of theirs trains them.
        """
        main = 1 - table.token_column(AUXILIARY).float()
        table = table.with_columns({"mask": main, "counted": main})
        for stage in (self.advantage, *self.advantage_transforms):
            table = stage(table, context)
        for part in self.filters:
            keep = part.fn(table, context)
            columns = {"mask": table.columns["mask"] * keep}
            if part.shrinks_denominator:
                columns["counted"] = table.columns["counted"] * (keep != 0)
            table = table.with_columns(columns)
        return table

    def observe(self, table: TokenTable, metrics: Mapping[str, float]) -> None:
        """Let the controllers see a finished step."""
        for controller in self.controllers:
            controller.observe(table, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Return state of the controllers by name, as JSON."""
        return {controller.name: controller.state_dict() for controller in self.controllers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the controllers' state back. Raises `CheckpointError` if it is that of other controllers."""
        names = {controller.name for controller in self.controllers}
        if names != set(state):
            raise CheckpointError(f"The checkpoint's controllers are {sorted(state)}, the run's are {sorted(names)}.")
        for controller in self.controllers:
            controller.load_state_dict(state[controller.name])
