"""Who reflects on an episode: a policy in its own words, or hindsight from the environment's distances."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.reflect import Outcome, Refusal, Report, format_report, parse_report, reflection_messages
from agentgym_rft.core import Turn
from agentgym_rft.errors import PolicyError
from agentgym_rft.rollouts.forks import Played
from agentgym_rft.rollouts.hindsight import pivot_of
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.speaker import Ask


@dataclass(frozen=True, slots=True)
class Reflection:
    """A report, or why there is none.

    `text` is what it was read from. `turn` is that reply with the prompt as its context; None where its tokens are not
    known. It is `trainable` if the policy under training sampled it.
    """

    report: Report | Refusal
    text: str = ""
    turn: Turn | None = None


class Reflector(Protocol):
    """Reflects on episodes, many at once."""

    async def reflect(self, played: Played) -> Reflection:
        """The reflection on an episode with at least one turn and no error. Never raises for a failing policy."""
        ...


class SpokenReflector:
    """A policy that writes a report in answer to the card's reflection prompt.

    Args:
        card: of the agent.
        reply: samples the answer, for example `LocalWorkers.reply`.
        is_own: it is the policy under training, so that its reflections may be trained.
    """

    def __init__(self, card: AgentCard, reply: Callable[[Ask], Awaitable[Turn | None]], *, is_own: bool) -> None:
        self._card = card
        self._reply = reply
        self._is_own = is_own

    async def reflect(self, played: Played) -> Reflection:
        trajectory, card = played.trajectory, self._card.reflect
        ask = Ask(
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
    """No words, only a rule: the pivot is the first turn after which the shortest completion of the task grew.

    If it never grew, an episode that was won is a success, and one that was not is retried from the start. Episodes
    must have recorded what remains (`EpisodeSpec.record_remaining`).
    """

    async def reflect(self, played: Played) -> Reflection:
        left = [number for number in played.remaining if number is not None]
        if len(left) != len(played.trajectory.turns) + 1:
            return Reflection(Refusal.CANNOT_TELL)
        report = hindsight_report(left, won=played.trajectory.won)
        return Reflection(report, format_report(report))


def hindsight_report(left: list[int], *, won: bool) -> Report:
    """The report of the hindsight rule; `left` is the shortest completion at the start and after every turn."""
    has_setback = any(after > before for before, after in pairwise(left))
    if won and not has_setback:
        return Report("The task was done.", None, Outcome.SUCCESS, None, None)
    pivot = pivot_of(left)
    outcome = Outcome.SUCCESS_BUT_INEFFICIENT if won else Outcome.FAILURE
    cause = (
        f"Step {pivot} led away from the goal."
        if has_setback
        else "No step led away from the goal, and none led to it."
    )
    return Report(
        "The task was done with detours." if won else "The task was not done.",
        cause,
        outcome,
        "Take another action there." if has_setback else "Take the shortest way from the start.",
        pivot,
    )
