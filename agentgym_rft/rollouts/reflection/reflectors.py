"""Reflectors: a policy that writes a report on an episode, or a rule that uses the environment's distances."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.reflect import Refusal, Report, format_report, parse_report, reflection_messages
from agentgym_rft.core import Turn
from agentgym_rft.envs.base import Lesson
from agentgym_rft.errors import PolicyError
from agentgym_rft.rollouts.episode.forks import EpisodeRecord
from agentgym_rft.rollouts.reflection.chat import ChatRequest
from agentgym_rft.rollouts.reflection.hindsight import plain_lesson, report_of, team_lesson, with_goal
from agentgym_rft.rollouts.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Reflection:
    """A report, or why there is none.

    `text` is the reply that holds the report. `turn` is that reply as tokens, with the prompt as its context; None
    where its tokens are not known. It is `trainable` if the policy in training sampled it.
    """

    report: Report | Refusal
    text: str = ""
    turn: Turn | None = None


class Reflector(Protocol):
    """Reflects on episodes, many at once."""

    async def reflect(self, played: EpisodeRecord) -> Reflection:
        """Return the reflection on an episode with at least one turn and no error.
        Never raises for a failing policy.
        """
        ...


class SpokenReflector:
    """A policy that writes a report in answer to the card's reflection prompt.

    Args:
        card: of the agent.
        reply: samples the answer, for example `LocalWorkers.reply`.
        is_own: the policy is the one in training, so its reflections may be trained.
    """

    def __init__(
        self, card: AgentCard, reply: Callable[[ChatRequest], Awaitable[Turn | None]], *, is_own: bool
    ) -> None:
        self._card = card
        self._reply = reply
        self._is_own = is_own

    async def reflect(self, played: EpisodeRecord) -> Reflection:
        trajectory, card = played.trajectory, self._card.reflect
        ask = ChatRequest(
            key=f"{trajectory.episode_id}/reflection",
            messages=reflection_messages(self._card, trajectory),
            max_tokens=card.max_tokens,
            temperature=card.temperature,
            seed=derive_seed(played.seed, "reflection"),
        )
        try:
            turn = await self._reply(ask)
        except PolicyError:
            return Reflection(Refusal.REFLECTOR_ERROR)
        if turn is None:
            return Reflection(Refusal.NO_ROOM)
        text = str(turn.info["text"])
        report = parse_report(text, len(trajectory.turns))
        return Reflection(report, text, turn if self._is_own else replace(turn, trainable=False))


class HindsightReflector:
    """A rule without a model: the pivot is the first turn after which the shortest completion of the task grew.

    Episodes must have recorded what remains (`EpisodeSpec.record_remaining`).

    Args:
        lesson: words the report, by `TextEnv.lesson` or `plain_lesson`. Episodes of several agents have `team_lesson`.
    """

    def __init__(self, lesson: Callable[[str, Sequence[tuple[str, str]], int | None], Lesson] = plain_lesson) -> None:
        self._lesson = lesson

    async def reflect(self, played: EpisodeRecord) -> Reflection:
        turns, observations = played.trajectory.turns, played.observations
        left = [number for number in played.remaining if number is not None]
        if len(left) != len(turns) + 1:
            return Reflection(Refusal.CANNOT_TELL)
        if played.team:
            words = partial(team_lesson, [str(turn.info["agent"]) for turn in turns])
        else:
            actions = [str(turn.info["action"]) for turn in turns]
            steps = [(a, after.observation if a else "") for a, after in zip(actions, observations[1:], strict=True)]
            words = partial(self._lesson, with_goal(observations[0].observation, observations[0].info), steps)
        report = report_of(left, words, won=played.trajectory.won)
        return Reflection(report, format_report(report))
