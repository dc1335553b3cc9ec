"""One agent's part of an episode of several agents, while it is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentgym_rft.agents.agent import ChatAgent, Prompt
from agentgym_rft.agents.parse import Parsed
from agentgym_rft.core import StopReason, Turn
from agentgym_rft.envs.base import Expert
from agentgym_rft.rollouts.seats import AgentSpec


class AgentState:
    """What one agent has seen, done and got so far."""

    def __init__(self, seat: AgentSpec, episode_id: str) -> None:
        self.seat = seat
        self.cache_key = f"{episode_id}#{seat.agent}"
        self.agent = None if seat.is_scripted else ChatAgent(seat.card, seat.chat)
        self.unguided: ChatAgent | None = None  # of a guided agent: what it would be without the guidance
        self.shown: dict[int, Prompt] = {}  # by own turn, what that one was shown
        self.script: Expert | None = None
        self.asked = ""  # what the coming action answers
        self.turns: list[Turn] = []
        self.owed = 0.0  # reward that came before the first turn
        self.rewards: dict[str, float] = {}
        self.outcome: tuple[StopReason, dict[str, Any]] | None = None  # once it is out

    def observe(self, observation: str, info: Mapping[str, Any]) -> None:
        self.asked = observation
        for agent in (self.agent, self.unguided):
            if agent is not None:
                agent.observe(observation, info)

    def act(self, agent: ChatAgent, ids: Sequence[int]) -> tuple[str, Parsed]:
        """The reply's text and the action in it; the unguided agent is told that it said the same."""
        if self.unguided is not None:
            self.shown[len(self.turns)] = self.unguided.prompt()
            self.unguided.act(ids)
        return agent.act(ids)

    def split(self) -> None:
        """From now on the agent has an unguided twin. It comes before the first observation."""
        self.unguided = ChatAgent(self.seat.card, self.seat.chat)

    def unguided_turns(self, start: int) -> tuple[Turn, ...]:
        """The turns in the context of the twin; those from `start` on were sampled outside it."""
        kept = self.turns[:start]
        new = [
            replace(turn, context_ids=self.shown[n].added, restart=self.shown[n].restart, off_context=True)
            for n, turn in enumerate(self.turns[start:], start)
        ]
        return (*kept, *new)

    def reward(self, name: str, amount: float) -> None:
        """Add to a reward; it belongs to the agent's last turn, or to its first if there is none yet."""
        if not amount:
            return
        self.rewards[name] = self.rewards.get(name, 0.0) + amount
        if self.turns:
            self.turns[-1] = replace(self.turns[-1], reward=self.turns[-1].reward + amount)
        else:
            self.owed += amount

    def add(self, turn: Turn) -> None:
        self.turns.append(replace(turn, reward=turn.reward + self.owed) if self.owed else turn)
        self.owed = 0.0
