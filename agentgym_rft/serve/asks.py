"""A request for a reply, whatever route it came by."""

from __future__ import annotations

from dataclasses import dataclass

from agentgym_rft.agents.template import Message


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a reply to `messages` or to `prompt_ids`. The gateway chooses what is None."""

    conversation_id: str | None
    messages: tuple[Message, ...] | None = None
    prompt_ids: tuple[int, ...] = ()
    max_tokens: int | None = None
    temperature: float = 1.0
    seed: int | None = None
