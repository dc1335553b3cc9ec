"""Agent cards: system prompt, action grammar, context strategy and limits of a chat agent, as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentgym_rft.errors import ConfigError


class Part(BaseModel):
    """Base of the parts of a card."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ActionCard(Part):
    grammar: Literal["plain", "tags"] = Field("plain", description="plain: the reply is the command; tags: <action>")
    think: bool = Field(False, description="tags only: a <think> block must come before the action")
    max_tokens: int = Field(24, ge=1, description="sampled tokens a turn")
    max_chars: int = Field(200, ge=1, description="longer commands are invalid")


class ContextCard(Part):
    strategy: Literal["full", "window", "notes"] = Field("full", description="what a turn's prompt holds")
    num_turns: int = Field(4, ge=0, description="window and notes: last turns shown")
    show_admissible: bool = Field(False, description="list the admissible actions with each observation")
    hide_actions: tuple[str, ...] = Field(("help",), description="admissible actions that are not listed")
    max_chars: int = Field(8000, ge=1, description="an observation is cut after this many characters")


class AgentCard(Part):
    """Everything that turns observations into prompts and replies into actions."""

    name: str
    system: str = ""
    action: ActionCard = ActionCard()
    context: ContextCard = ContextCard()
    invalid_feedback: str = Field(
        "That was not a valid reply ({error}).", description="observation after an unparsable reply; may use {error}"
    )


def parse_card(data: Mapping[str, Any]) -> AgentCard:
    """The card in a plain mapping. Raises `ConfigError` with one sentence."""
    try:
        return AgentCard.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"Agent card field '{where}': {first['msg']}.") from error
