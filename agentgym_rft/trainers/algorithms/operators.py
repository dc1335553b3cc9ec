"""Operators: what is done to groups between playing and training, by configuration (`rollout.operators`).

An operator sees one group without errored trajectories and returns it, perhaps with other rewards or fewer
trajectories, or None: the group is not trained. Operators run in the order they are listed. They are applied when a
group is trained, never when it is stored, so that a stored group can be trained under others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from agentgym_rft.config.base import Options
from agentgym_rft.core import Group, StopReason, Trajectory
from agentgym_rft.errors import ConfigError
from agentgym_rft.registry.plugins import Plugin, PluginRegistry
from agentgym_rft.trainers.algorithms.reward_shaping import Length, overlong_penalty, with_reward
from agentgym_rft.trainers.batch.groups import has_signal

Apply = Callable[[Group], Group | None]
Build = Callable[[Any], Apply]
TRUNCATED = (StopReason.STEP_LIMIT, StopReason.TOKEN_LIMIT)


@dataclass(frozen=True, slots=True)
class Operator:
    """A configured operator."""

    name: str
    apply: Apply


OPERATORS: PluginRegistry[Build] = PluginRegistry("Operator", "agentgym_rft.operators", ("options",), Callable)


def register_operator(name: str, options: type[Options] = Options) -> Callable[[Build], Build]:
    """Return a decorator that registers a function from options to what is done to each group.

    Raises `RegistryError` for a name that is taken.
    """
    return OPERATORS.decorator(name, lambda build: Plugin(build, options))


def build_operators(entries: Sequence[str | dict[str, Any]]) -> tuple[Operator, ...]:
    """Return the operators of a configuration, in order. Raises what `PluginRegistry.listed` does."""
    listed = OPERATORS.listed(entries, "rollout.operators")
    return tuple(Operator(name, OPERATORS.checked(name, build(options))) for name, build, options in listed)


def apply_operators(operators: Sequence[Operator], groups: Sequence[Group]) -> tuple[list[Group], dict[str, float]]:
    """Return the groups that are trained, and what was dropped as metrics.

    `operators/dropped_<name>` counts groups, `operators/removed_<name>` trajectories of groups that stayed.
    """
    dropped: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    kept = list(groups)
    for operator in operators:
        before, kept = kept, []
        for group in before:
            if not group.trajectories:  # imitated only
                kept.append(group)
                continue
            after = operator.apply(group)
            if after is None or not after.trajectories:
                dropped[operator.name] += 1
            else:
                removed[operator.name] += len(group.trajectories) - len(after.trajectories)
                kept.append(after)
    metrics = {}
    for operator in operators:
        metrics[f"operators/dropped_{operator.name}"] = float(dropped[operator.name])
        metrics[f"operators/removed_{operator.name}"] = float(removed[operator.name])
    return kept, metrics


@register_operator("drop_without_signal")
def drop_without_signal(options: Options) -> Apply:
    """Drops groups whose returns are all equal, as the operators before it left them."""
    return lambda group: group if has_signal(group) else None


class PassRateOptions(Options):
    low: float = Field(0.0, ge=0, le=1, description="share of won trajectories that a group must have")
    high: float = Field(1.0, ge=0, le=1, description="share that it may have")


@register_operator("pass_rate_range", PassRateOptions)
def pass_rate_range(options: PassRateOptions) -> Apply:
    """Drops groups whose share of won trajectories is outside a range, bounds included. Retries count."""
    if options.low > options.high:
        raise ConfigError(f"Operator 'pass_rate_range' has low {options.low} above high {options.high}.")

    def apply(group: Group) -> Group | None:
        rate = sum(t.won for t in group.valid) / max(len(group.valid), 1)
        return group if options.low <= rate <= options.high else None

    return apply


@register_operator("drop_truncated")
def drop_truncated(options: Options) -> Apply:
    """Takes out trajectories that a step or token limit cut; a group without any other is dropped."""

    def apply(group: Group) -> Group | None:
        return replace(group, trajectories=tuple(t for t in group.trajectories if t.stop_reason not in TRUNCATED))

    return apply


class LengthOptions(Options):
    coef: float = Field(gt=0, description="reward taken off for each token or turn")
    unit: Length = Field("tokens", description="length in action tokens or in turns")


@register_operator("length_penalty", LengthOptions)
def length_penalty(options: LengthOptions) -> Apply:
    """The reward `length` of every trajectory: minus `coef` times its length."""

    def penalised(trajectory: Trajectory) -> Trajectory:
        length = trajectory.num_action_tokens if options.unit == "tokens" else len(trajectory.turns)
        return with_reward(trajectory, "length", -options.coef * length) if length else trajectory

    return lambda group: _each(group, penalised)


class ClipOptions(Options):
    low: float = Field(-1.0, description="smallest return")
    high: float = Field(1.0, description="largest return")


@register_operator("clip_reward", ClipOptions)
def clip_reward(options: ClipOptions) -> Apply:
    """Returns cut to a range; what is cut off is the reward `clip` of the last turn."""
    if options.low > options.high:
        raise ConfigError(f"Operator 'clip_reward' has low {options.low} above high {options.high}.")

    def clipped(trajectory: Trajectory) -> Trajectory:
        before = trajectory.episode_return
        change = min(max(before, options.low), options.high) - before
        return with_reward(trajectory, "clip", change) if change and trajectory.turns else trajectory

    return lambda group: _each(group, clipped)


class OverlongOptions(Options):
    limit: int = Field(ge=1, description="length of the full penalty")
    buffer: int = Field(1, ge=1, description="lengths before the limit over which the penalty grows")
    unit: Length = Field("tokens", description="length in action tokens or in turns")
    factor: float = Field(1.0, gt=0, description="the full penalty")


@register_operator("overlong_penalty", OverlongOptions)
def overlong(options: OverlongOptions) -> Apply:
    """DAPO's soft penalty on long trajectories, for any algorithm; groups without signal stay as they are."""
    if options.buffer > options.limit:
        raise ConfigError(f"Operator 'overlong_penalty' has buffer {options.buffer} above limit {options.limit}.")
    return overlong_penalty(options.unit, options.limit, options.buffer, options.factor).fn


def _each(group: Group, change: Callable[[Trajectory], Trajectory]) -> Group:
    return replace(group, trajectories=tuple(map(change, group.trajectories)))
