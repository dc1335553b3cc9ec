"""What a player reads on the way to each information set, so that a model's strategy can be scored exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentgym_rft.envs.kuhn_poker.env import SEATS, KuhnPokerEnv
from agentgym_rft.envs.kuhn_poker.theory import ALL_INFOSETS, DEALS

WORDS = {"b": "bet", "p": "pass"}


@dataclass(frozen=True, slots=True)
class InfosetPrompt:
    """What the acting player has seen and said when it is to act in an information set.

    Attributes:
        infoset: its name, see `theory`.
        agent: who acts.
        steps: what it observed and what it answered, in its turns before.
        observation: what it observes now.
        task_id: a deal in which it comes up.
        actions: what both said in that deal to come there.
    """

    infoset: str
    agent: str
    steps: tuple[tuple[str, str], ...]
    observation: str
    task_id: str
    actions: tuple[str, ...]


def prompts_of_infosets(factory: Callable[[], KuhnPokerEnv] = KuhnPokerEnv) -> dict[str, InfosetPrompt]:
    """The prompt of each of the twelve information sets, by name; the other player's card is never in it."""
    env = factory()
    try:
        return {infoset: _prompt(env, infoset) for infoset in ALL_INFOSETS}
    finally:
        env.close()


def _prompt(env: KuhnPokerEnv, infoset: str) -> InfosetPrompt:
    card, actions = infoset[0], tuple(WORDS[move] for move in infoset[1:])
    seat = len(actions) % 2
    first, second = next(cards for cards in DEALS if cards[seat] == card)
    task_id = f"deal-{first}{second}"
    env.reset(seed=0, options={"task_id": task_id})
    steps = []
    for action in actions:
        if env.agent_selection == SEATS[seat]:
            steps.append((env.observe(SEATS[seat]), action))
        env.step(action)
    return InfosetPrompt(infoset, SEATS[seat], tuple(steps), env.observe(SEATS[seat]), task_id, actions)
