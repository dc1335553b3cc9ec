"""The chat agent of one episode: observations in, prompts out; sampled ids in, actions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.context import History, conversation
from agentgym_rft.agents.parse import Parsed, parse_reading
from agentgym_rft.agents.template import Message
from agentgym_rft.agents.thoughts import Reading, Thought, read_reply


@dataclass(frozen=True, slots=True)
class Prompt:
    """The next action's context: `added` since the last action, or all of it if `restart`; `row` is the row so far."""

    added: tuple[int, ...]
    row: Sequence[int]
    restart: bool


def chat_format(tokenizer: Any, card: AgentCard) -> ChatFormat:
    """Return the chat format of a tokenizer for a card. Raises `PolicyError` if its template cannot be used."""
    return ChatFormat(tokenizer, card.action, arguments=card.chat_template_kwargs, date=card.date)


class ChatAgent:
    """Keeps one episode's conversation as text and as a row of tokens.

    With the `full` strategy and replies that the template never changes, the sampled ids stay in the row as they were
    sampled. Otherwise each turn is rendered afresh and opens a new row; then earlier replies are context, and only the
    new action is trained.
    """

    def __init__(self, card: AgentCard, chat: ChatFormat) -> None:
        self.card = card
        self._chat = chat
        self._history = History()
        self._replies: list[str] = []
        self._row: list[int] = []
        self._last_id: int | None = None
        self._is_growing = card.context.strategy == "full"
        self._note = ""
        self._note_turn = -1  # the turn whose observation the note comes before

    @property
    def observation(self) -> str:
        """The observation that the next action answers, as shown to the model."""
        return self._history.observations[-1]

    def observe(self, observation: str, info: Mapping[str, Any]) -> None:
        """Take in the environment's observation."""
        self._history.add_observation(observation, info, self.card.context)

    def inject(self, note: str) -> None:
        """Show a note in the coming prompts, as context that is never trained.

        Called before the first prompt, it ends the system prompt; later, it is a system message just before the
        observation that is about to be answered (see `ChatFormat.noted`). Strategies with one message a turn have no
        such place: there it always ends the system prompt.
        """
        self._note, self._note_turn = self._chat.as_text(note), len(self._replies)

    def prompt(self) -> Prompt:
        """Return the context of the next action."""
        if self._is_growing and self._replies:
            note = self._note if self._note_turn == len(self._replies) else ""
            added = self._chat.following(self._history.observations[-1], self._last_id, note)
            self._row.extend(added)
            return Prompt(added, self._row, restart=False)
        added = self._chat.opening(self._messages())
        self._row = list(added)
        return Prompt(added, self._row, restart=bool(self._replies))

    def act(self, ids: Sequence[int]) -> tuple[str, Parsed]:
        """Return the reply's text and the action in it."""
        text = self._chat.text(ids)
        reading = read_reply(text)
        parsed = parse_reading(reading, self.card.action)
        self._is_growing = self._is_growing and self._chat.stays(ids)
        self._row.extend(ids)
        self._last_id = ids[-1] if ids else None
        self._replies.append(text)
        self._history.add_action(parsed.action or reading.answer.strip())
        return text, parsed

    def invalid_feedback(self, parsed: Parsed) -> str:
        """Return the observation that answers a reply without an action."""
        return invalid_feedback(self.card, parsed)

    def _messages(self) -> list[Message]:
        is_full = self.card.context.strategy == "full"
        is_in_system = bool(self._note) and (self._note_turn == 0 or not is_full)
        system = "\n\n".join(part for part in (self.card.system, self._note if is_in_system else "") if part)
        return conversation(system, self._history, self._replies, self.card.context, self._shown)

    def _shown(self, turn: int, observation: str) -> list[Message]:
        if self._note and turn == self._note_turn > 0:
            return self._chat.noted(self._note, observation)
        return _plainly_shown(turn, observation)


class TextAgent:
    """The chat agent of one episode for a model that takes and gives text only.

    It has no tokens, so nothing is trained.
    """

    def __init__(self, card: AgentCard) -> None:
        self.card = card
        self._history = History()
        self._replies: list[str] = []

    def messages(self, observation: str, info: Mapping[str, Any]) -> list[Message]:
        """Take in an observation. Returns the conversation that the next action answers."""
        self._history.add_observation(observation, info, self.card.context)
        return conversation(self.card.system, self._history, self._replies, self.card.context, _plainly_shown)

    def act(self, text: str, thought: str = "") -> Parsed:
        """Return the action in a reply; a `thought` beside it was thought before, and is not shown again."""
        reading = read_reply(text)
        if thought and reading.kind is Thought.NONE:
            reading = Reading(thought, reading.answer, Thought.CLOSED)
        parsed = parse_reading(reading, self.card.action)
        self._replies.append(text)
        self._history.add_action(parsed.action or reading.answer.strip())
        return parsed


def _plainly_shown(turn: int, observation: str) -> list[Message]:
    return [{"role": "user", "content": observation}]


def invalid_feedback(card: AgentCard, parsed: Parsed) -> str:
    """Return the observation that answers a reply without an action."""
    return card.invalid_feedback.replace("{error}", parsed.error.value if parsed.error else "")
