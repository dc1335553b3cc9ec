"""The trajectories of an episode that ended: one of each agent, and one with the turns of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentgym_rft.core import StopReason, Trajectory, Turn, rounded_sum
from agentgym_rft.rollouts.episode.boundary import outcome_info
from agentgym_rft.rollouts.episode.forks import Fork
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.episode.state import AgentState

ONLY_AGENT = "agent"  # agent_id of an agent that its environment does not name
TEAM = "team"  # agent_id of the trajectory that has the turns of all


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an episode. `last` is the last observation; `failed` the agent whose error it is, if it is one's."""

    spec: EpisodeSpec
    start: Fork | None
    info: Mapping[str, Any]
    last: str
    stop: StopReason
    error: Mapping[str, Any] | None
    failed: AgentState | None = None
    stopped: str = ""  # the rule of the run that ended it
    needed_tokens: tuple[int, int] | None = None  # of a prompt and an action for which there was no room

    def trajectory(self, state: AgentState) -> Trajectory:
        """Return one agent's trajectory. It ends with the agent's own outcome, where the environment names agents."""
        if not state.name:
            return self._made(ONLY_AGENT, state.turns, state.rewards, self.info, self.last)
        ending, outcome = self, self.info.get("outcomes", {}).get(state.name, {})
        if state.outcome is not None:
            stop, outcome = state.outcome
            ending = replace(self, stop=stop, error=None)
        elif self.stop.is_error and self.failed is not None and self.failed is not state:
            message = f"'{self.failed.name}' broke the episode."
            error = {**(self.error or {}), "type": "Abandoned", "message": message}
            ending = replace(self, stop=StopReason.ABANDONED, error=error)
        info = {**self.info, "won": outcome.get("won", False), "score": outcome.get("score", 0.0)}
        last = str(outcome.get("final") or "") or state.asked
        made = ending._made(state.name, state.turns, state.rewards, info, last)
        about = {"role": state.spec.role, "player": state.spec.player, "is_trained": state.spec.is_trained}
        return replace(made, info={**made.info, **about})

    def team_trajectory(
        self, turns: Sequence[Turn], states: Iterable[AgentState], own: Sequence[Trajectory]
    ) -> Trajectory:
        """Return the turns of all agents as one trajectory, with the mean of what they were paid as its reward."""
        paid = [state.rewards["env"] + state.rewards.get("team", 0.0) for state in states]
        made = self._made(TEAM, turns, {"env": sum(paid) / len(paid)}, self.info, self.last)
        if self.stop.is_error:
            return made
        return replace(made, info={**made.info, "seats": {each.agent_id: _result(each) for each in own}})

    def _made(
        self,
        agent: str,
        turns: Sequence[Turn],
        rewards: Mapping[str, float],
        info: Mapping[str, Any],
        last: str,
    ) -> Trajectory:
        spec, parent = self.spec, None if self.start is None else self.start.parent
        reset_seed = spec.seed % 2**31 if parent is None else parent.reset_seed
        about = outcome_info(info, last if turns else "", spec.max_steps, reset_seed)
        about |= ({"stopped": self.stopped} if self.stopped else {}) | ({"error": self.error} if self.error else {})
        about |= {} if self.needed_tokens is None else {"needed_tokens": list(self.needed_tokens)}
        return Trajectory(
            task_id=spec.task_id,
            group_id=spec.group_id,
            episode_id=spec.episode_id,
            turns=tuple(turns),
            stop_reason=self.stop,
            agent_id=agent,
            parent_id=None if parent is None else parent.trajectory.episode_id,
            fork_turn=None if self.start is None else self.start.turn,
            rewards={} if self.stop.is_error else dict(rewards),
            info=about,
        )


def _result(trajectory: Trajectory) -> dict[str, Any]:
    """Return what an evaluation tells about one agent."""
    told = {key: trajectory.info[key] for key in ("role", "player", "won", "score")}
    return {**told, "return": rounded_sum(trajectory.rewards.values()), "turns": len(trajectory.turns)}
