"""A stored episode played again from the action logs of its agents, and the first thing that is not as it was."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.agent import ChatAgent, invalid_feedback
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.context import History
from agentgym_rft.agents.parse import parse_reply
from agentgym_rft.agents.thoughts import read_reply
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.episode.boundary import checked_info, checked_step, guarded, is_stepped
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.workers.env_pool import discard
from agentgym_rft.rollouts.workers.event_loop import EventLoop

_SHOWN = 160  # characters of a value in a sentence
_NEEDED = ("text", "action", "observation")
_LIMITS = (StopReason.STEP_LIMIT, StopReason.TOKEN_LIMIT)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that is not as stored. `turn` counts from 0; None is the end of the episode."""

    turn: int | None
    what: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        place = "at the end" if self.turn is None else f"turn {self.turn}"
        return f"{place}, {self.what}: expected {_short(self.expected)}, got {_short(self.got)}"


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay. `note` says what could not be compared."""

    difference: Difference | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings of the run that stored the episodes, to replay them with.

    `card`: of an agent that its environment does not name. `chat`: compare the token ids of its prompts, too.
    `invalid_penalty`: `rollout.invalid_penalty` of the run.
    """

    make_env: Callable[[], TextEnv]
    card: AgentCard
    invalid_penalty: float = 0.0
    timeout_s: float | None = None
    chat: ChatFormat | None = None


def why_not_replayable(trajectory: Trajectory) -> str | None:
    """Return what a stored episode lacks for a replay, as a sentence; None if it has all."""
    name = trajectory.episode_id
    if not isinstance(trajectory.info.get("reset_seed"), int):
        return f"Episode '{name}' has no reset_seed: it was stored by version 0.1, or is no episode of an environment."
    if any(key not in turn.info for turn in trajectory.turns for key in _NEEDED):
        return f"Episode '{name}' has turns without text, action or observation: it is no action log."
    return None


def replay(trajectories: Sequence[Trajectory], setting: Setting) -> Replayed:
    """Play the actions of a stored episode in a new environment and compare, turn by turn, what is stored.

    Compared are whose turn it is, what that agent observed, state keys, invalid flags and how the episode ended for
    each agent. Of an agent that the environment does not name, also rewards, actions as the card parses them, and with
    `setting.chat` the token ids of prompts and the text of replies.

    Args:
        trajectories: those of all agents of the episode.
    Raises:
        DataError: the episode cannot be replayed.
    """
    for each in trajectories:
        if problem := why_not_replayable(each):
            raise DataError(problem)
    return EventLoop().run(lambda: _replay(trajectories, setting))


async def _replay(trajectories: Sequence[Trajectory], setting: Setting) -> Replayed:
    env = setting.make_env()
    again = _Episode(EnvCalls(env, setting.timeout_s), trajectories, setting)
    try:
        _, error = await guarded(again.play, lambda: again.num_turns)
    finally:
        await discard(env, setting.timeout_s)
    return again.outcome(error)


class Differs(Exception):
    """Ends a replay at its first difference."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


class _Episode:
    """The state of a replay."""

    def __init__(self, env: EnvCalls, trajectories: Sequence[Trajectory], setting: Setting) -> None:
        self._env, self._trajectories, self._setting = env, trajectories, setting
        first = trajectories[0]
        self._only = None if "role" in first.info else first  # of an agent that the environment does not name
        self._left = {each.agent_id: deque(each.turns) for each in trajectories}
        self._agent = ChatAgent(setting.card, setting.chat) if setting.chat is not None and self._only else None
        self._history = History()  # of the only agent
        self._observation = ""  # as a turn that answers it records it
        self._info: dict[str, Any] = {}
        self._is_over = self._is_terminated = False
        self._difference: Difference | None = None
        self._note = ""
        self.num_turns = 0

    async def play(self) -> StopReason:
        """Play all turns, or up to the first difference."""
        first = self._trajectories[0]
        try:
            self._take(*await self._env.reset(first.info["reset_seed"], first.task_id))
            while any(self._left.values()):
                await self._turn()
                self.num_turns += 1
            for each in self._trajectories:
                if not each.is_error:
                    self._end(each)
        except Differs as problem:
            self._difference = problem.difference
        return first.stop_reason

    def outcome(self, error: Mapping[str, Any] | None) -> Replayed:
        """Return what the replay showed; `error` is what the environment raised in it."""
        stored: Mapping[str, Any] = next((each.info["error"] for each in self._trajectories if each.is_error), {})
        if error is not None:
            if (stored.get("type"), stored.get("turn")) == (error["type"], self.num_turns):
                return Replayed(None, self._note)
            expected = f"{stored['type']} at turn {stored['turn']}" if stored else "no error"
            got = f"{error['type']}: {error['message']}"
            return Replayed(Difference(self.num_turns, "error", expected, got), self._note)
        if stored and self._difference is None:
            return Replayed(None, f"the action that led to {stored['type']} is not stored")
        return Replayed(self._difference, self._note)

    async def _turn(self) -> None:
        self._same("end of the episode", "a further turn", "no further turn" if self._is_over else "a further turn")
        turn = self._next()
        self._same("observation", turn.info["observation"], self._observation)
        self._same("state_key", turn.state_key, str(self._info.get("state_key", "")))
        self._tokens(turn)
        error, feedback = self._parsed(turn)
        observation, reward, terminated, truncated, info = feedback, 0.0, False, False, self._info
        if is_stepped(error, str(turn.info.get("agent", ""))):
            observation, reward, terminated, truncated, info = checked_step(await self._env.step(turn.info["action"]))
        invalid = error or ("refused" if info.get("invalid_action") else "")
        self._same("invalid_action", turn.info.get("invalid_action", ""), invalid)
        if self._only is not None:
            self._reward(turn, reward - (self._setting.invalid_penalty if invalid else 0.0))
            self._history.add_action(turn.info["action"] or read_reply(str(turn.info["text"])).answer.strip())
        self._take(observation, info)
        self._is_terminated = terminated
        self._is_over = terminated or truncated or bool(self._only and self._info["won"])

    def _next(self) -> Turn:
        """Return the next turn of the agent whose turn it is."""
        if self._only is not None:
            return self._left[self._only.agent_id].popleft()
        agent = str(self._info["agent"])
        left = [name for name, turns in self._left.items() if turns]
        self._same("whose turn it is", agent if agent in left else left, agent)
        return self._left[agent].popleft()

    def _parsed(self, turn: Turn) -> tuple[str, str]:
        """Return why a reply holds no action, and the feedback to it.
        Cards of named agents are taken at their word.
        """
        if self._only is None:
            stored = str(turn.info["invalid_action"])
            return "" if stored == "refused" else stored, ""
        parsed = parse_reply(str(turn.info["text"]), self._setting.card.action)
        self._same("action", turn.info["action"], parsed.action)
        error = "" if parsed.error is None else parsed.error.value
        return error, invalid_feedback(self._setting.card, parsed)

    def _tokens(self, turn: Turn) -> None:
        """Compare the tokens of a turn, unless a text that is not stored was in its context."""
        fork_turn = self._trajectories[0].fork_turn
        if self._agent is not None and fork_turn is not None and not turn.off_context and self.num_turns >= fork_turn:
            self._agent = None
            self._note = f"token ids from turn {self.num_turns} on follow a guidance that is not stored"
        if self._agent is None:
            return
        prompt = self._agent.prompt()
        self._same("restart of the row", turn.restart, prompt.restart)
        self._same("context_ids", tuple(turn.context_ids), tuple(prompt.added))
        text, _ = self._agent.act(turn.action_ids)
        self._same("text of the reply", turn.info["text"], text)

    def _reward(self, turn: Turn, reward: float) -> None:
        if not math.isclose(turn.reward, reward, rel_tol=1e-9, abs_tol=1e-9):
            self._same("reward", turn.reward, reward)

    def _end(self, stored: Trajectory) -> None:
        if self._only is None:
            outcome, whose = self._info["outcomes"][stored.agent_id], f" of {stored.agent_id}"
        else:
            outcome, whose = self._info, ""
            self.num_turns = -1
            last = self._observation if stored.turns else ""
            self._same("last observation", stored.info.get("last_observation", last), last)
        won = bool(outcome["won"])
        self._same(f"won{whose}", stored.info.get("won", won), won)
        self._same(f"score{whose}", stored.info.get("score"), float(outcome["score"]))
        if self._only is not None:
            limit = stored.stop_reason if stored.stop_reason in _LIMITS else StopReason.STEP_LIMIT
            is_lost = self._is_terminated or "stopped" in stored.info
            stop = StopReason.SUCCESS if won else StopReason.FAILURE if is_lost else limit
            self._same("stop reason", stored.stop_reason.value, stop.value)

    def _take(self, observation: str, info: Mapping[str, Any]) -> None:
        self._info, self._observation = checked_info(observation, info), observation
        if self._only is not None:
            self._history.add_observation(observation, info, self._setting.card.context)
            self._observation = self._history.observations[-1]
        if self._agent is not None:
            self._agent.observe(observation, info)

    def _same(self, what: str, expected: Any, got: Any) -> None:
        if expected != got:
            raise Differs(Difference(None if self.num_turns < 0 else self.num_turns, what, expected, got))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
