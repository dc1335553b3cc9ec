"""The kinds of parts that an algorithm is made of. `base.py` composes them.

They run at three levels:

* Reward shaping sees a group's trajectories before there is a table, and changes or adds rewards.
* Stages and filters see the token table of the whole batch once, without gradient.
* Differentiable parts (surrogate, regularisers) see the tokens of one micro-batch and return one loss a token. They
  never take a mean: the update multiplies by global per-token weights, so micro-batches sum to the global loss.

Controllers keep a state from step to step, which is saved in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from agentgym_rft.core import Group
from agentgym_rft.trainers.algorithms.units import Unit
from agentgym_rft.trainers.batch.table import TokenTable


@dataclass(frozen=True, slots=True)
class Context:
    """Information beside the table: step and seed, for schedules and random choices."""

    step: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RewardShaping:
    """A function that returns a group, of which it sees the valid trajectories, with other rewards."""

    name: str
    fn: Callable[[Group], Group]


@dataclass(frozen=True, slots=True)
class Stage:
    """A function that takes the global table and returns token columns [N], without gradient."""

    name: str
    fn: Callable[[TokenTable, Context], Mapping[str, Tensor]]
    needs: frozenset[str]
    provides: frozenset[str]

    def __call__(self, table: TokenTable, context: Context) -> TokenTable:
        """Return the table with the columns that this stage provides."""
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
    """Tokens of one micro-batch, each [K].

    `logprobs` and `log_ratio` carry gradient; a statistic does if a regulariser asks for it. `clip_log_ratio`, the
    log-ratio of the token's unit of clipping without gradient, is compared with the bounds.
    """

    logprobs: Tensor
    log_ratio: Tensor
    clip_log_ratio: Tensor
    distribution_stats: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]  # the columns that the part needs, whatever their level


@dataclass(frozen=True, slots=True)
class Bounds:
    """Lower and upper bound of the ratio, at each token [K] or the same for all."""

    name: str
    fn: Callable[[LossInputs], tuple[Tensor | float, Tensor | float]]
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The policy loss of each token, and which tokens a bound cut off.

    `scales_with_advantage`: a token of zero advantage has zero gradient, so rows without any advantage need no
    backward pass. `stops_gradient`: tokens that a bound cut off have none either, as in PPO.
    `uses_ratio`: False if it needs no log-probs of the policy before the update, and so no extra pass.
    """

    name: str
    fn: Callable[[LossInputs], tuple[Tensor, Tensor]]  # loss [K], clipped [K] bool
    needs: frozenset[str] = frozenset({"advantage"})
    scales_with_advantage: bool = True
    stops_gradient: bool = False
    uses_ratio: bool = True


class Coefficient(Protocol):
    """A number that may change from step to step: a schedule of the context, or a controller's feedback value."""

    def __call__(self, context: Context) -> float: ...


def coefficient(value: float | Coefficient, context: Context) -> float:
    """Return the number now."""
    return value(context) if callable(value) else value


class Controller(Protocol):
    """A state that an algorithm keeps from step to step."""

    @property
    def name(self) -> str: ...

    def observe(self, table: TokenTable, metrics: Mapping[str, float]) -> None:
        """Take in a finished step: its prepared table (values before the update) and its metrics."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Regularizer:
    """A further loss of each token with its own coefficient and its own mask (a token column; default: the policy
    loss's own tokens before filters). `needs_grad` names the statistics it differentiates.
    """

    name: str
    fn: Callable[[LossInputs], Tensor]  # [K]
    coef: float | Coefficient
    needs: frozenset[str] = frozenset()
    needs_grad: frozenset[str] = frozenset()
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Importance ratio: against which log-probs, over which unit, and over which unit bounds are applied.

    `anchor` is a token column: `old_logprobs` (the policy's at the start of the update) or `behaviour_logprobs` (the
    sampler's).
    With unit `turn` or `trajectory` every token has the geometric mean of its unit's token ratios as the value, and the
    gradient of its own log-prob (GSPO-token, arXiv 2507.18071 eq. 13), which sums to GSPO's where the advantage is
    constant in the unit. `clip_unit` is the unit whose geometric mean the bounds judge; all its tokens are cut off or
    none.
    """

    anchor: str = "old_logprobs"
    unit: Unit = "token"
    clip_unit: Unit = "token"


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Weight of each token from the tokens that count, [N] -> [N]; the loss is the weighted sum."""

    name: str
    fn: Callable[[TokenTable, Tensor], Tensor]
