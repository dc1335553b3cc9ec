"""Agent cards: system prompt, action grammar, context strategy and limits of a chat agent, as YAML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentgym_rft.config.load import find_yaml, merge, read_yaml
from agentgym_rft.config.run import AgentSection
from agentgym_rft.errors import ConfigError, did_you_mean


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
    show_goal: bool = Field(False, description="repeat info['goal'] after each observation")
    hide_actions: tuple[str, ...] = Field(("help",), description="admissible actions that are not listed")
    max_chars: int = Field(8000, ge=1, description="an observation is cut after this many characters")


class ReflectCard(Part):
    system: str = Field(
        "Reflect on the episode below. Reply with one JSON object with exactly these keys: "
        '"trajectory_summary" (text), "root_cause_analysis" (text or null), "trajectory_outcome" ("success", '
        '"success_but_inefficient" or "failure"), "improvement_suggestion" (a principle that helps without having seen '
        'the episode; null only for success), "retry_from_step" (number of the earliest step where the cause shows or '
        "another decision could change the outcome, 0 if the whole strategy was wrong, null for success).",
        description="system prompt of a reflection",
    )
    max_tokens: int = Field(192, ge=1, description="sampled tokens of a reflection")
    temperature: float = Field(1.0, ge=0, description="sampling temperature of a reflection")


class AgentCard(Part):
    """Everything that turns observations into prompts and replies into actions."""

    name: str
    system: str = ""
    action: ActionCard = ActionCard()
    context: ContextCard = ContextCard()
    reflect: ReflectCard = ReflectCard()
    invalid_feedback: str = Field(
        "That was not a valid reply ({error}).", description="observation after an unparsable reply; may use {error}"
    )


def parse_card(data: Mapping[str, Any]) -> AgentCard:
    """Return the card in a plain mapping. Raises `ConfigError` with one sentence."""
    try:
        return AgentCard.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from error


def card_label(card: AgentCard) -> str:
    """Return name and content hash of a card, for example `plain@0123456789ab`: equal labels mean equal cards."""
    return f"{card.name}@{hashlib.sha256(card.model_dump_json().encode()).hexdigest()[:12]}"


def _sentence(error: ValidationError) -> str:
    """One sentence about the first problem: what was given, what was expected."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"The agent card has no '{where}'; give it one."
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[Part]] = {"action": ActionCard, "context": ContextCard, "reflect": ReflectCard}
        part = parts.get(str(first["loc"][0]), AgentCard)
        return f"An agent card has no field '{where}'.{did_you_mean(str(first['loc'][-1]), part.model_fields)}"
    return f"Agent card field '{where}' is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."


def load_card(section: AgentSection) -> AgentCard:
    """Return the agent card of a run: the named one with the overrides laid over it. Raises `ConfigError`."""
    return parse_card(merge(read_yaml(find_yaml("agents", section.card)), section.overrides))
