"""What a player reads on the way to each information set."""

from __future__ import annotations

from dataclasses import dataclass

from agentgym_rft.envs.base import InformationSet
from agentgym_rft.envs.kuhn_poker.env import SEATS, KuhnPokerEnv


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


def prompts_of_infosets() -> dict[str, InfosetPrompt]:
    """The prompt of each of the twelve information sets, by name."""
    env = KuhnPokerEnv()
    return {place.name: _prompt(env, place) for place in env.theory().information_sets()}


def _prompt(env: KuhnPokerEnv, place: InformationSet) -> InfosetPrompt:
    env.reset(seed=0, options={"task_id": place.task_id})
    agent = SEATS[len(place.actions) % 2]
    steps = []
    for action in place.actions:
        if env.agent_selection == agent:
            steps.append((env.observe(agent), action))
        env.step(action)
    return InfosetPrompt(place.name, agent, tuple(steps), env.observe(agent), place.task_id, tuple(place.actions))
