"""The record of an episode that was played, and a fork: the place in it from which to go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentgym_rft.core import Trajectory, Turn
from agentgym_rft.errors import ReplayDiverged
from agentgym_rft.rollouts.episode.boundary import is_stepped
from agentgym_rft.rollouts.episode.env_calls import EnvCalls


class Observation(NamedTuple):
    """An agent's observation: the environment's answer, or the card's feedback to a reply without an action.

    A tuple, because one is made every turn, in less than half the time of a frozen dataclass.
    """

    observation: str
    info: Mapping[str, Any]
    reward: float = 0.0  # of the step that led to it


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """An episode with what a fork of it needs.

    `observations` has one entry more than the trajectory has turns, except after an error; `snapshots` and `remaining`
    have one for each turn that was begun, in the state before it, where the episode recorded them.
    """

    trajectory: Trajectory
    observations: Sequence[Observation]
    seed: int  # of its own sampling
    reset_seed: int  # of the environment: a retry has that of its parent
    snapshots: Sequence[bytes] = ()
    remaining: Sequence[int | None] = ()  # shortest completions, and that of the state at the end
    unguided: Trajectory | None = None  # of a guided retry: the guided agent's actions in a context without guidance
    team: tuple[Trajectory, ...] = ()  # one an agent, if the environment names them; `trajectory` has the turns of all

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """The trajectory of each agent: what may be trained."""
        return self.team or (self.trajectory,)

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents' names; of an only agent that has none, ""."""
        return tuple(each.agent_id for each in self.team) or ("",)

    def of(self, agent: str) -> Trajectory:
        """Return the trajectory of an agent; "" is the whole episode. Raises `KeyError` for an unknown one."""
        return {each.agent_id: each for each in self.team}[agent] if agent else self.trajectory


@dataclass(frozen=True, slots=True)
class Fork:
    """A place to go on from: before turn `turn` of `parent`, with guidance that the agent is shown from there on.

    Turns before `turn` are kept as they were sampled. The step limit is shared: the retry goes on counting at `turn`.
    With several agents the turns of all are counted, and guidance is shown to `agent` alone (default: to the one whose
    turn it is). `action`, where it is given, is what is done in the turn instead of asking for it; with `is_noop` it is
    the environment's no-op. Such a turn is not trained.
    """

    parent: EpisodeRecord
    turn: int
    guidance: str = ""
    action: str | None = None
    agent: str = ""
    is_noop: bool = False


def own_turns(turns: Sequence[Turn], agent: str) -> int:
    """Return how many of some turns an agent took; "" stands for all agents."""
    return sum(not agent or turn.info["agent"] == agent for turn in turns)


def fork(
    parent: EpisodeRecord,
    turn: int,
    guidance: str = "",
    action: str | None = None,
    *,
    agent: str = "",
    is_noop: bool = False,
) -> Fork:
    """Return a fork of an episode. Raises `ValueError` for a turn that it did not have."""
    num_turns = len(parent.trajectory.turns)
    if not 0 <= turn < num_turns:
        raise ValueError(f"Turn {turn} is not in episode {parent.trajectory.episode_id}, which has {num_turns} turns.")
    return Fork(parent, turn, guidance, action, agent, is_noop)


async def go_back(env: EnvCalls, start: Fork) -> None:
    """Bring an environment to the state before a fork's turn.

    From a snapshot if the episode has one; else by a reset and a replay of the actions, in which every observation is
    compared. A reply that did not reach the environment does not now either.

    Raises:
        ReplayDiverged: an observation or the state is another one than in the episode.
    """
    parent, turn = start.parent, start.turn
    there = parent.observations[turn]
    if turn < len(parent.snapshots):
        _, info = await env.restore(parent.snapshots[turn])
    else:
        observation, info = await env.reset(parent.reset_seed, parent.trajectory.task_id)
        _compare("first observation", parent.observations[0].observation, observation)
        for number, past in enumerate(parent.trajectory.turns[:turn]):
            if is_stepped("" if past.info["action"] else "no action", str(past.info.get("agent", ""))):
                observation, _, _, _, info = await env.step(past.info["action"])
                _compare(f"observation after turn {number}", parent.observations[number + 1].observation, observation)
    _compare(f"state before turn {turn}", str(there.info.get("state_key", "")), str(info.get("state_key", "")))


def _compare(what: str, expected: str, got: str) -> None:
    if got != expected:
        raise ReplayDiverged(f"The {what} was {expected[:120]!r}, on the way back to it {got[:120]!r}.")
