"""The kinds of parts that an algorithm is made of, and `Algorithm`, their frozen composition.

Two worlds, kept apart on purpose:

* Stages (advantage, modulators, filters, aggregation) see the token table of the whole batch once, without gradient.
* Differentiable parts (surrogate, regularisers) see the tokens of one micro-batch, return one loss a token, and never
  take a mean: the update multiplies by global per-token weights, so micro-batches add up to the global loss exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.table import SCORED_COLUMNS, TokenTable

Unit = Literal["token", "turn", "trajectory"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage may know beside the table: step and seed, for schedules and random choices."""

    step: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """A function over the global table that returns token columns [N]; sees and returns no gradient."""

    name: str
    fn: Callable[[TokenTable, Context], Mapping[str, Tensor]]
    needs: frozenset[str]
    provides: frozenset[str]

    def __call__(self, table: TokenTable, context: Context) -> TokenTable:
        """The table with the columns that this stage provides."""
        columns = self.fn(table, context)
        if set(columns) != self.provides:
            raise ValueError(f"Stage '{self.name}' declares {sorted(self.provides)} but gave {sorted(columns)}.")
        return table.with_columns({name: column.detach() for name, column in columns.items()})


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """A function over the global table that returns the tokens to keep, [N] in {0, 1} (or weights).

    With `shrinks_denominator`, dropped tokens also leave the count that the loss is divided by; without, they stay in
    it as zeros.
    """

    name: str
    fn: Callable[[TokenTable, Context], Tensor]
    needs: frozenset[str]
    shrinks_denominator: bool


@dataclass(frozen=True, slots=True)
class LossInputs:
    """Tokens of one micro-batch, each [K]. `lp` and `log_ratio` carry gradient, `entropy` where it was asked for."""

    lp: Tensor
    log_ratio: Tensor
    entropy: Tensor
    columns: Mapping[str, Tensor]  # the columns that the part needs, whatever their level


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The policy loss of each token, and which tokens a bound cut off.

    `scales_with_advantage`: a token of zero advantage has zero gradient, so rows without any advantage need no
    backward pass.
    """

    name: str
    fn: Callable[[LossInputs], tuple[Tensor, Tensor]]  # loss [K], clipped [K] bool
    needs: frozenset[str] = frozenset({"advantage"})
    scales_with_advantage: bool = True


@dataclass(frozen=True, slots=True)
class Regularizer:
    """A further loss of each token with its own coefficient and its own mask (a token column; default: all tokens)."""

    name: str
    fn: Callable[[LossInputs], Tensor]  # [K]
    coef: float
    needs: frozenset[str] = frozenset()
    needs_entropy_grad: bool = False
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Importance ratio: against which log-probs, and over which unit.

    `anchor` is a token column: `old_lp` (the policy at the start of the update) or `behaviour_lp` (the sampler's).
    With unit `turn` or `trajectory` every token has the geometric mean of its unit's token ratios as the value, and the
    gradient of its own log-prob (GSPO-token, arXiv 2507.18071 eq. 13), which sums to GSPO's where the advantage is
    constant in the unit.
    """

    anchor: str = "old_lp"
    unit: Unit = "token"


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Weight of each token from the tokens that count, [N] -> [N]; the loss is the weighted sum."""

    name: str
    fn: Callable[[TokenTable, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One training algorithm, composed of small functions."""

    name: str
    advantage: Stage
    surrogate: Surrogate
    aggregation: Aggregation
    ratio: Ratio = Ratio()
    modulators: tuple[Stage, ...] = ()
    filters: tuple[TokenFilter, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    min_group_size: int = 1

    def _parts(self) -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
        """Name, needs and provides of every part, in order."""
        for stage in (self.advantage, *self.modulators):
            yield stage.name, stage.needs, stage.provides
        for keep in self.filters:
            yield keep.name, keep.needs, frozenset()
        yield "ratio", frozenset({self.ratio.anchor}), frozenset()
        yield self.surrogate.name, self.surrogate.needs, frozenset()
        for term in self.regularizers:
            yield term.name, term.needs | ({term.mask} if term.mask else frozenset()), frozenset()

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
    def scored_columns(self) -> frozenset[str]:
        """Columns that its global stages need from a forward pass over the batch before the update."""
        needs = [stage.needs for stage in (self.advantage, *self.modulators)] + [keep.needs for keep in self.filters]
        return SCORED_COLUMNS & frozenset[str]().union(*needs)

    @property
    def loss_columns(self) -> frozenset[str]:
        """Columns that its differentiable parts read."""
        return self.surrogate.needs.union(*(term.needs for term in self.regularizers))

    @property
    def needs_reference(self) -> bool:
        """Whether a reference policy must score the batch (column `ref_lp`)."""
        return "ref_lp" in self.needs

    @property
    def needs_entropy_grad(self) -> bool:
        return any(term.needs_entropy_grad for term in self.regularizers)

    def validate(self, available: Iterable[str], group_size: int | None = None) -> None:
        """Raise `ConfigError` that names the part and the first column it lacks, or the group size it needs."""
        have = set(available)
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

    @torch.no_grad()
    def prepare(self, table: TokenTable, context: Context) -> TokenTable:
        """The global table with `advantage`, `mask` (trains) and `counted` (is in the denominator) of every token."""
        for stage in (self.advantage, *self.modulators):
            table = stage(table, context)
        ones = torch.ones(table.num_tokens, device=table.turn.device)
        table = table.with_columns({"mask": ones, "counted": ones})
        for part in self.filters:
            keep = part.fn(table, context)
            columns = {"mask": table.columns["mask"] * keep}
            if part.shrinks_denominator:
                columns["counted"] = table.columns["counted"] * keep
            table = table.with_columns(columns)
        return table
