"""One agent of an episode while it is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentgym_rft.agents.agent import ChatAgent, Prompt
from agentgym_rft.core import StopReason, Turn
from agentgym_rft.rollouts.episode.players import Player, Reply
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seats import AgentSpec


class AgentState:
    """The conversation, turns and rewards of one agent so far.

    A guided agent has an unguided twin, which is fed the same observations and the same sampled ids: it gives the
    context that the actions are later trained under. No text is tokenised again.
    """

    def __init__(self, agent: AgentSpec, spec: EpisodeSpec, *, has_tokens: bool) -> None:
        self.spec = agent
        self.name = agent.agent
        self.cache_key = f"{spec.episode_id}#{agent.agent}" if agent.agent else spec.episode_id
        self.chat_agent = ChatAgent(agent.card, agent.chat) if has_tokens else None
        self.unguided: ChatAgent | None = None
        self.unguided_prompts: dict[int, Prompt] = {}  # by own turn
        self.player: Player | None = None  # of an agent without tokens, from its first turn on
        self.asked = ""  # the observation that the coming action answers, as a turn records it
        self.turns: list[Turn] = []
        self.owed = 0.0  # reward of the turn that is recorded next
        is_listed = spec.invalid_penalty and not agent.agent
        self.rewards: dict[str, float] = {"env": 0.0, **({"invalid_action": -0.0} if is_listed else {})}
        self.outcome: tuple[StopReason, dict[str, Any]] | None = None  # once it is out before the others

    def observe(self, observation: str, info: Mapping[str, Any]) -> None:
        """Take in an observation. An agent that is alone records it as its card shows it."""
        self.asked = observation
        if self.chat_agent is None:
            return
        self.chat_agent.observe(observation, info)
        if self.unguided is not None:
            self.unguided.observe(observation, info)
        if not self.name:
            self.asked = self.chat_agent.observation

    def split(self) -> None:
        """Give the agent an unguided twin, before its first observation."""
        self.unguided = ChatAgent(self.spec.card, self.spec.chat)

    def note_reply(self, ids: Sequence[int]) -> None:
        """Tell the unguided twin, if there is one, that it said what the agent is about to say."""
        if self.unguided is not None:
            self.unguided_prompts[len(self.turns)] = self.unguided.prompt()
            self.unguided.act(ids)

    def unguided_turns(self, start: int) -> tuple[Turn, ...]:
        """Return the turns in the context of the twin; those from `start` on were sampled outside it."""
        prompts = self.unguided_prompts
        new = [
            replace(turn, context_ids=prompts[n].added, restart=prompts[n].restart, off_context=True)
            for n, turn in enumerate(self.turns[start:], start)
        ]
        return (*self.turns[:start], *new)

    def reward(self, name: str, amount: float, *, is_acting: bool) -> None:
        """Add to a reward; it belongs to the turn being taken, else to the last one, else to the first to come."""
        if not amount:
            return
        self.rewards[name] = self.rewards.get(name, 0.0) + amount
        if is_acting or not self.turns:
            self.owed += amount
        else:
            self.turns[-1] = replace(self.turns[-1], reward=self.turns[-1].reward + amount)

    def add(self, reply: Reply, state_key: str, invalid: str) -> None:
        """Record the turn of a reply, with its tokens as they were sampled and the reward that it was paid."""
        prompt, completion = reply.prompt, reply.completion
        info: dict[str, Any] = {
            "observation": self.asked,
            "text": reply.text,
            "action": reply.action,
            "invalid_action": invalid,
        }
        if self.name:
            info["agent"] = self.name
        if reply.counts:
            info.update(reply.counts)
        turn = Turn(
            prompt.added,
            completion.ids,
            completion.logprobs,
            self.owed,
            state_key,
            completion.policy_version,
            completion.last_version,
            prompt.restart,
            reply.is_trained,
            info=info,
        )
        self.turns.append(turn)
        self.owed = 0.0

    def add_again(self, past: Turn) -> None:
        """Record a turn of the episode that this one was forked from, with the reward that it was paid here."""
        self.turns.append(replace(past, reward=self.owed))
        self.owed = 0.0
