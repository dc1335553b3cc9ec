"""A stored episode of several agents played again from the action logs of all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.rollouts.episode.boundary import checked_info, checked_step, guarded
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.replay.single import Difference, Differs, Replayed, Setting, outcome
from agentgym_rft.rollouts.workers.event_loop import EventLoop


def replay_team(parts: Sequence[Trajectory], setting: Setting) -> Replayed:
    """Play the actions of all agents of an episode in a new environment and compare, turn by turn.

    Compared are whose turn it is, what that agent observes, state keys, what was refused, and each agent's outcome.

    Args:
        parts: the trajectories of all agents; each has a `reset_seed`, see `why_not_replayable`.
    """
    return EventLoop().run(lambda: _replay(parts, setting))


async def _replay(parts: Sequence[Trajectory], setting: Setting) -> Replayed:
    env = EnvCalls(setting.make_env(), setting.timeout_s)
    again = _Episode(env, parts)
    try:
        _, error = await guarded(again.play, lambda: again.num_turns)
    finally:
        await env.close()
    broken: Mapping[str, Any] = next((part.info["error"] for part in parts if part.is_error), {})
    return outcome(broken, error, again.num_turns, again.difference)


class _Episode:
    """The state of a replay."""

    def __init__(self, env: EnvCalls, parts: Sequence[Trajectory]) -> None:
        self._env, self._parts = env, parts
        self._left = {part.agent_id: deque(part.turns) for part in parts}
        self._info: dict[str, Any] = {}
        self._observation = ""
        self._is_over = False
        self.difference: Difference | None = None
        self.num_turns = 0

    async def play(self) -> StopReason:
        """Play all turns, or up to the first difference."""
        first = self._parts[0]
        try:
            self._take(*await self._env.reset(first.info["reset_seed"], first.task_id))
            while any(self._left.values()):
                await self._turn()
                self.num_turns += 1
            for part in self._parts:
                self._end(part)
        except Differs as problem:
            self.difference = problem.difference
        return first.stop_reason

    async def _turn(self) -> None:
        self._same("end of the episode", "a further turn", "no further turn" if self._is_over else "a further turn")
        agent = str(self._info["agent"])
        left = [name for name, turns in self._left.items() if turns]
        self._same("whose turn it is", agent if agent in left else left, agent)
        turn: Turn = self._left[agent].popleft()
        self._same("observation", turn.info["observation"], self._observation)
        self._same("state_key", turn.state_key, str(self._info.get("state_key", "")))
        observation, _, terminated, truncated, info = checked_step(await self._env.step(turn.info["action"]))
        if turn.info["invalid_action"] in ("", "refused"):  # any other reason is the card's
            self._same("invalid_action", turn.info["invalid_action"], "refused" if info.get("invalid_action") else "")
        self._take(observation, info)
        self._is_over = terminated or truncated

    def _end(self, part: Trajectory) -> None:
        standing = self._info["outcomes"][part.agent_id]
        if not part.is_error:
            self._same(f"won of {part.agent_id}", part.info["won"], standing["won"])
            self._same(f"score of {part.agent_id}", part.info["score"], standing["score"])

    def _take(self, observation: str, info: dict[str, Any]) -> None:
        self._info, self._observation = checked_info(observation, info), observation

    def _same(self, what: str, expected: Any, got: Any) -> None:
        if expected != got:
            raise Differs(Difference(self.num_turns, what, expected, got))
