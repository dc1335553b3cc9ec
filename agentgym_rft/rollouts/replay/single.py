"""A stored episode played again from its action log, and the first thing that is not as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.agent import ChatAgent, invalid_feedback
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.context import History
from agentgym_rft.agents.parse import parse_reply
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.episode.boundary import Step, checked_info, checked_step, guarded
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
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
    """What came of a replay. `note` says what could not be compared."""

    difference: Difference | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """What episodes are replayed with: as in the run that stored them.

    `chat`: compare the prompts' token ids, too. `invalid_penalty`: `rollout.invalid_penalty` of the run.
    """

    make_env: Callable[[], TextEnv]
    card: AgentCard
    invalid_penalty: float = 0.0
    timeout_s: float | None = None
    chat: ChatFormat | None = None


def why_not_replayable(trajectory: Trajectory) -> str | None:
    """What a stored episode lacks for a replay, as a sentence; None if it has all."""
    name = trajectory.episode_id
    if not isinstance(trajectory.info.get("reset_seed"), int):
        return f"Episode '{name}' has no reset_seed: it was stored by version 0.1, or is no episode of an environment."
    if any(key not in turn.info for turn in trajectory.turns for key in _NEEDED):
        return f"Episode '{name}' has turns without text, action or observation: it is no action log."
    return None


def replay(trajectory: Trajectory, setting: Setting) -> Replayed:
    """Play the actions of a stored episode in a new environment and compare, turn by turn, all that is stored.

    Compared are observations as the agent saw them, rewards, state keys, invalid flags, actions as the card parses
    them, and how the episode ended; with `setting.chat`, also the token ids of prompts and the text of replies.

    Raises:
        DataError: the episode cannot be replayed.
    """
    if problem := why_not_replayable(trajectory):
        raise DataError(problem)
    return EventLoop().run(lambda: _replay(trajectory, setting))


async def _replay(trajectory: Trajectory, setting: Setting) -> Replayed:
    env = EnvCalls(setting.make_env(), setting.timeout_s)
    again = _Episode(env, trajectory, setting)
    try:
        _, error = await guarded(again.play, lambda: again.num_turns)
    finally:
        await env.close()
    return again.outcome(error)


class Differs(Exception):
    """Ends a replay at its first difference."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


class _Episode:
    """The state of a replay."""

    def __init__(self, env: EnvCalls, trajectory: Trajectory, setting: Setting) -> None:
        self._env, self._trajectory, self._setting = env, trajectory, setting
        self._agent = ChatAgent(setting.card, setting.chat) if setting.chat is not None else None
        self._history = History()
        self._info: dict[str, Any] = {}
        self._is_over = self._is_terminated = False
        self._difference: Difference | None = None
        self._note = ""
        self.num_turns = 0

    async def play(self) -> StopReason:
        """Play all turns, or up to the first difference."""
        try:
            seed: int = self._trajectory.info["reset_seed"]
            self._take(*await self._env.reset(seed, self._trajectory.task_id))
            for turn in self._trajectory.turns:
                await self._turn(turn)
                self.num_turns += 1
            if not self._trajectory.is_error:
                self._end()
        except Differs as problem:
            self._difference = problem.difference
        return self._trajectory.stop_reason

    def outcome(self, error: dict[str, Any] | None) -> Replayed:
        """What the replay showed; `error` is what the environment raised in it."""
        stored = self._trajectory.info.get("error") or {}
        return outcome(stored, error, self.num_turns, self._difference, self._note)

    async def _turn(self, turn: Turn) -> None:
        self._same("end of the episode", "a further turn", "a further turn" if not self._is_over else "no further turn")
        self._same("observation", turn.info["observation"], self._history.observations[-1])
        self._same("state_key", turn.state_key, str(self._info.get("state_key", "")))
        self._tokens(turn)
        card, text = self._setting.card, str(turn.info["text"])
        parsed = parse_reply(text, card.action)
        self._same("action", turn.info["action"], parsed.action)
        step: Step = ("", 0.0, False, False, self._info)
        if parsed.error is None:
            step = checked_step(await self._env.step(parsed.action))
        else:
            step = (invalid_feedback(card, parsed), *step[1:])
        observation, reward, terminated, truncated, info = step
        refused = "refused" if info.get("invalid_action") else ""
        invalid = refused if parsed.error is None else parsed.error.value
        self._same("invalid_action", turn.info.get("invalid_action", ""), invalid)
        reward -= self._setting.invalid_penalty if invalid else 0.0
        if not math.isclose(turn.reward, reward, rel_tol=1e-9, abs_tol=1e-9):
            self._same("reward", turn.reward, reward)
        self._history.add_action(parsed.action or text.strip())
        self._take(observation, info)
        self._is_terminated = terminated
        self._is_over = terminated or truncated or bool(self._info["won"])

    def _tokens(self, turn: Turn) -> None:
        """Compare the tokens of a turn, unless a text that is not stored was in its context."""
        fork_turn = self._trajectory.fork_turn
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

    def _end(self) -> None:
        stored = self._trajectory
        won = bool(self._info["won"])
        limit = stored.stop_reason if stored.stop_reason in _LIMITS else StopReason.STEP_LIMIT
        is_lost = self._is_terminated or "stopped" in stored.info
        stop = StopReason.SUCCESS if won else StopReason.FAILURE if is_lost else limit
        last = self._history.observations[-1] if stored.turns else ""
        self.num_turns = -1
        self._same("last observation", stored.info.get("last_observation", last), last)
        self._same("won", stored.info.get("won", won), won)
        self._same("score", stored.info.get("score"), float(self._info["score"]))
        self._same("stop reason", stored.stop_reason.value, stop.value)

    def _take(self, observation: str, info: dict[str, Any]) -> None:
        self._info = checked_info(observation, info)
        self._history.add_observation(observation, info, self._setting.card.context)
        if self._agent is not None:
            self._agent.observe(observation, info)

    def _same(self, what: str, expected: Any, got: Any) -> None:
        if expected != got:
            raise Differs(Difference(None if self.num_turns < 0 else self.num_turns, what, expected, got))


def outcome(
    stored: Mapping[str, Any],
    error: Mapping[str, Any] | None,
    num_turns: int,
    difference: Difference | None,
    note: str = "",
) -> Replayed:
    """What a replay of `num_turns` turns showed that raised `error`; `stored` is the error of the stored episode."""
    if error is not None:
        if (stored.get("type"), stored.get("turn")) == (error["type"], num_turns):
            return Replayed(None, note)
        expected = f"{stored['type']} at turn {stored['turn']}" if stored else "no error"
        return Replayed(Difference(num_turns, "error", expected, f"{error['type']}: {error['message']}"))
    if stored and difference is None:
        note = f"the action that led to {stored['type']} is not stored"
    return Replayed(difference, note)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
