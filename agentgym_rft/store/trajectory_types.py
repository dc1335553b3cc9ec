"""The types of what is stored of a trajectory, checked when it is read, so that nothing behind has to ask again."""

from __future__ import annotations

from typing import Annotated, Any, Required

from pydantic import Field, with_config
from typing_extensions import TypedDict

from agentgym_rft.json_text import CLOSED, OPEN

Id = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=-(2**53), le=2**53)]


@with_config(OPEN)
class TurnInfo(TypedDict, total=False):
    """What our own code reads of a turn's `info`; an environment's own keys may hold anything."""

    observation: str
    text: str
    action: str
    invalid_action: str
    agent: str
    sampled_tokens: Count
    context_tokens: Count


@with_config(OPEN)
class TrajectoryInfo(TypedDict, total=False):
    """What our own code reads of a trajectory's `info`."""

    won: bool
    score: float
    task_type: str
    last_observation: str
    max_steps: Count
    reset_seed: Id
    measures: dict[str, float]
    error: dict[str, Any] | None
    role: str
    player: str
    is_trained: bool
    seats: dict[str, dict[str, Any]]
    pivot: Count
    imitation: float


@with_config(CLOSED)
class StoredTurn(TypedDict, total=False):
    """A turn. Fields that are not there have the defaults of `Turn`."""

    context_ids: Required[list[Id]]
    action_ids: Required[list[Id]]
    logprobs: Required[list[float]]
    reward: float
    state_key: str
    policy_version: Count
    last_version: Count | None
    restart: bool
    trainable: bool
    off_context: bool
    info: TurnInfo


@with_config(CLOSED)
class StoredTrajectory(TypedDict, total=False):
    """A trajectory. Fields that are not there have the defaults of `Trajectory`."""

    task_id: Required[str]
    group_id: Required[str]
    episode_id: Required[str]
    turns: Required[list[StoredTurn]]
    stop_reason: Required[str]
    agent_id: str
    parent_id: str | None
    fork_turn: Count | None
    rewards: dict[str, float]
    info: TrajectoryInfo


@with_config(CLOSED)
class StoredGroup(TypedDict):
    """The first line of a group in an experience store."""

    group_id: str
    task_id: str
    num_trajectories: Annotated[int, Field(ge=0)]
