"""Agent cards: system prompt, action grammar, context strategy and limits of a chat agent, as YAML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from agentgym_rft.config.base import Section
from agentgym_rft.config.load import find_yaml, merge, read_yaml
from agentgym_rft.config.run import AgentSection
from agentgym_rft.errors import ConfigError, did_you_mean

# Arguments of `apply_chat_template` that are not the template's own.
_RESERVED = frozenset(
    {"conversation", "messages", "chat_template", "tokenize", "add_generation_prompt", "continue_final_message"}
    | {"padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"}
    | {"tokenizer_kwargs", "tools"}
)


class Part(Section):
    """Base of the parts of a card."""


class ActionCard(Part):
    grammar: Literal["plain", "tags"] = Field("plain", description="plain: the reply is the command; tags: <action>")
    think: bool = Field(False, description="tags only: a <think> block must come before the action")
    max_tokens: int = Field(24, ge=1, description="sampled tokens a turn")
    max_chars: int = Field(200, ge=1, description="longer commands are invalid")

    @property
    def thinks(self) -> bool:
        """True if a thought must come before the action."""
        return self.think and self.grammar == "tags"


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
    """Everything that turns observations into prompts and replies into actions.

    `date` is the run's, not the card's: the day that a chat template is told, as YYYY-MM-DD; empty: today.
    """

    name: str
    system: str = ""
    action: ActionCard = ActionCard()
    context: ContextCard = ContextCard()
    reflect: ReflectCard = ReflectCard()
    invalid_feedback: str = Field(
        "That was not a valid reply ({error}).", description="observation after an unparsable reply; may use {error}"
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="passed to the chat template, e.g. {enable_thinking: false}"
    )
    date: str = ""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @field_validator("chat_template_kwargs")
    @classmethod
    def _not_ours(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(_RESERVED & given.keys()):
            raise ValueError(f"'{name}' is set by the gym itself; leave it out")
        return given


def today() -> str:
    """Return the day, as chat templates are told it."""
    return datetime.now().date().isoformat()


def parse_card(data: Mapping[str, Any]) -> AgentCard:
    """Return the card in a plain mapping. Raises `ConfigError` with one sentence."""
    try:
        return AgentCard.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_sentence(error)) from error


def card_label(card: AgentCard) -> str:
    """Return name and content hash of a card, for example `plain@0123456789ab`: equal labels mean equal cards."""
    without = {"date"} if card.chat_template_kwargs else {"date", "chat_template_kwargs"}
    return f"{card.name}@{hashlib.sha256(card.model_dump_json(exclude=without).encode()).hexdigest()[:12]}"


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
    problem = first["msg"].removeprefix("Value error, ")
    return f"Agent card field '{where}' is {first['input']!r}: {problem[0].lower()}{problem[1:]}."


def load_card(section: AgentSection) -> AgentCard:
    """Return the agent card of a run: the named one with the overrides laid over it, and the run's day, or today.

    Raises `ConfigError`.
    """
    given = merge(read_yaml(find_yaml("agents", section.card)), section.overrides)
    return parse_card({**given, "date": section.date or today()})
