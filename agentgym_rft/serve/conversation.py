"""One conversation as tokens: the ids that a request adds to the sampled ones, and the turns made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentgym_rft.agents.agent import Prompt
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.agents.template import Message
from agentgym_rft.core import StopReason, Trajectory, Turn

AGENT_ID = "external"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a conversation, as its agent reports it."""

    reward: float
    task_id: str
    won: bool
    metadata: dict[str, Any]


@dataclass(slots=True)
class Conversation:
    """The turns so far and the row of tokens that the next one may continue.

    `messages` are those that the last reply answered; None if that was a prompt of token ids.
    """

    id: str
    touched: float  # when the last request ended
    is_running: bool = False
    turns: list[Turn] = field(default_factory=list)
    row: tuple[int, ...] = ()
    messages: tuple[Message, ...] | None = None
    reply: str = ""

    def prompt(self, chat: ChatFormat, messages: Sequence[Message]) -> Prompt:
        """Return the context of the next reply: what the chat template puts after the last one, if the row can go on.

        It cannot where the messages are not the last ones, our reply and more, or where the template rewrites history.
        Then the conversation is rendered whole and opens a new row.
        """
        if self.messages is not None and _continues(messages, self.messages, self.reply):
            later = messages[len(self.messages) + 1 :]
            added = chat.extension(self.messages, self.reply, later, self.row[-1])
            if added is not None:
                return Prompt(added, (*self.row, *added), restart=False)
        opening = chat.opening(messages)
        return Prompt(opening, opening, restart=bool(self.turns))

    def token_prompt(self, ids: Sequence[int]) -> Prompt:
        """Return the same for a prompt of token ids: it continues the row if it begins with it and adds something."""
        whole = tuple(ids)
        if self.turns and len(whole) > len(self.row) and whole[: len(self.row)] == self.row:
            return Prompt(whole[len(self.row) :], whole, restart=False)
        return Prompt(whole, whole, restart=bool(self.turns))

    def record(
        self, prompt: Prompt, completion: Completion, messages: Sequence[Message] | None, text: str, temperature: float
    ) -> None:
        """Add a turn: the sampled ids after their context."""
        asked = messages[-1]["content"] if messages else ""
        self.turns.append(
            Turn(
                context_ids=prompt.added,
                action_ids=completion.ids,
                logprobs=completion.logprobs,
                policy_version=completion.policy_version,
                last_version=completion.last_version,
                restart=prompt.restart,
                info={
                    "observation": asked,
                    "text": text,
                    "action": text.strip(),
                    "invalid_action": "",
                    "temperature": temperature,
                },
            )
        )
        self.row = (*prompt.row, *completion.ids)
        self.messages = None if messages is None else tuple(messages)
        self.reply = text

    def trajectory(self, group_id: str, episode_id: str, outcome: Outcome) -> Trajectory:
        """Return the finished conversation. Its reward came with its last turn."""
        turns = (*self.turns[:-1], replace(self.turns[-1], reward=outcome.reward))
        return Trajectory(
            task_id=outcome.task_id,
            group_id=group_id,
            episode_id=episode_id,
            turns=turns,
            stop_reason=StopReason.SUCCESS if outcome.won else StopReason.FAILURE,
            agent_id=AGENT_ID,
            rewards={"feedback": outcome.reward},
            info={
                "won": outcome.won,
                "score": float(outcome.won),
                "task_type": "",
                "last_observation": "",
                "conversation_id": self.id,
                "metadata": outcome.metadata,
            },
        )


def _continues(messages: Sequence[Message], before: Sequence[Message], reply: str) -> bool:
    """Return True if `messages` are those before, our reply word for word, and at least one more."""
    known = [*before, {"role": "assistant", "content": reply}]
    return len(messages) > len(known) and list(messages[: len(known)]) == known
