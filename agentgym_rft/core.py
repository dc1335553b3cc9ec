"""Data that flows through the gym: turns, trajectories and groups.

No torch and no I/O here, so that environments, agents, rollouts and trainers can all share these types.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any

RETURN_DIGITS = 12  # significant ones of a return; what is beyond comes from rounding, not from rewards


def return_decimals(scale: float) -> int:
    """Return the decimal places to which returns of this size are kept, so that equal ones compare equal."""
    return RETURN_DIGITS - math.ceil(math.log10(scale)) if 0 < scale < math.inf else RETURN_DIGITS


def rounded_sum(rewards: Iterable[float]) -> float:
    """Return a sum of rewards to 12 digits of the sum of their sizes.

    Ten times 0.1 is 1, and the order of the rewards does not matter. Without that, episodes of equal reward would
    differ by 1e-16, and every comparison within a group would see a signal there.
    """
    given = [float(reward) for reward in rewards]
    scale = sum(map(abs, given))
    return round(math.fsum(given), return_decimals(scale)) if math.isfinite(scale) else sum(given)


def difference(value: float, other: float) -> float:
    """Return `value` minus `other`, two returns or means of them; 0 where only rounding tells them apart."""
    found = value - other
    return found if abs(found) > 10**-RETURN_DIGITS * max(abs(value), abs(other)) else 0.0


class StopReason(StrEnum):
    """Why a trajectory ended. The last four are errors: they are recorded with their type and never become a reward."""

    SUCCESS = "success"
    FAILURE = "failure"
    STEP_LIMIT = "step_limit"
    TOKEN_LIMIT = "token_limit"
    ENV_ERROR = "env_error"
    POLICY_ERROR = "policy_error"
    TIMEOUT = "timeout"
    ABANDONED = "abandoned"  # the episode broke because of another agent

    @property
    def is_error(self) -> bool:
        """True if the episode broke; such a trajectory has no return and enters no baseline."""
        return self in (StopReason.ENV_ERROR, StopReason.POLICY_ERROR, StopReason.TIMEOUT, StopReason.ABANDONED)


@dataclass(frozen=True, slots=True)
class Turn:
    """One model action with the tokens that led to it.

    Example: three turns of one growing row, the sampled ids being the trained ids:

        context_ids  [sys goal obs0]   [obs1]   [obs2]
        action_ids          [a0 end]   [a1 end] [a2 end]
        the row:      sys goal obs0 a0 end obs1 a1 end obs2 a2 end

    A turn with `restart=True` begins a new row: its `context_ids` are then the whole context, not an addition.
    """

    context_ids: Sequence[int]  # tokens added to the row since the last turn's action
    action_ids: Sequence[int]  # sampled tokens, the end-of-turn token included
    logprobs: Sequence[float]  # nats, one for each action id, from the sampler
    reward: float = 0.0
    state_key: str = ""  # of the state the action was taken in; equal key <=> equal state
    policy_version: int = 0  # of the weights that sampled its first token
    last_version: int | None = None  # of the weights that sampled its last token, if new ones came in between
    restart: bool = False
    trainable: bool = True
    off_context: bool = False  # sampled with guidance in the context, which was then taken out of this row
    info: Mapping[str, Any] = field(default_factory=dict)  # action text, observation text, invalid_action, ...

    def __reduce__(self) -> tuple[Any, ...]:
        return Turn, _turn_fields(self)  # half the time of the default, which goes through the fields in Python


_turn_fields = attrgetter(*(each.name for each in fields(Turn)))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One agent's part of one episode."""

    task_id: str
    group_id: str
    episode_id: str
    turns: tuple[Turn, ...]
    stop_reason: StopReason
    agent_id: str = "agent"
    parent_id: str | None = None  # episode this one was forked from
    fork_turn: int | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)  # by source: what its turns were paid, in all
    info: Mapping[str, Any] = field(default_factory=dict)  # won, score, task_type, error, ...

    @property
    def is_error(self) -> bool:
        return self.stop_reason.is_error

    @property
    def won(self) -> bool:
        return self.stop_reason is StopReason.SUCCESS

    @property
    def episode_return(self) -> float:
        """Return the sum of the named rewards, see `rounded_sum`.

        Raises ValueError for an errored trajectory: an error is no reward.
        """
        if self.is_error:
            raise ValueError(f"Trajectory {self.episode_id} ended with {self.stop_reason.value}; it has no return.")
        return rounded_sum(self.rewards.values())

    @property
    def oldest_version(self) -> int | None:
        """The oldest weights that sampled any of it; None without turns."""
        return min((turn.policy_version for turn in self.turns), default=None)

    @property
    def num_action_tokens(self) -> int:
        return sum(len(turn.action_ids) for turn in self.turns)

    def rows(self) -> Iterator[tuple[Turn, ...]]:
        """Yield turns that share one growing row of tokens; a rewritten history (`restart`) opens the next row."""
        row: list[Turn] = []
        for turn in self.turns:
            if turn.restart and row:
                yield tuple(row)
                row = []
            row.append(turn)
        if row:
            yield tuple(row)


def add_reward(trajectory: Trajectory, name: str, amounts: Mapping[int, float]) -> Trajectory:
    """Return the trajectory with a reward for some of its turns, by their numbers; -1 is the last.

    Every reward after the episode goes this way, so that what the turns were paid and the named rewards stay one sum.
    """
    turns = list(trajectory.turns)
    for number, amount in amounts.items():
        turns[number] = replace(turns[number], reward=turns[number].reward + amount)
    total = trajectory.rewards.get(name, 0.0) + sum(amounts.values())
    return replace(trajectory, turns=tuple(turns), rewards={**trajectory.rewards, name: total})


@dataclass(frozen=True, slots=True)
class Group:
    """Trajectories of one task from the same start, which share a baseline.

    `auxiliary` trajectories (reflections, guided retries) do not enter the baseline and get no advantage. Some
    algorithms imitate them.
    """

    group_id: str
    task_id: str
    trajectories: tuple[Trajectory, ...]
    auxiliary: tuple[Trajectory, ...] = ()

    @property
    def valid(self) -> tuple[Trajectory, ...]:
        """The trajectories that ended without an error."""
        return tuple(t for t in self.trajectories if not t.is_error)
