"""Chat text as tokens: what a prompt adds to a row, and what a reply says.

A template puts fixed text between two turns. That text is found once, by rendering probe conversations; each new turn
then only adds tokens to the row. Some templates rewrite earlier turns when later ones are added (Qwen3 drops old
thoughts): after such a reply every turn is rendered whole and begins a new row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.agents.card import ActionCard
from agentgym_rft.agents.control_tokens import BREAK, ControlTokens
from agentgym_rft.agents.growth import Growth, best_form
from agentgym_rft.agents.parse import format_action
from agentgym_rft.agents.template import REPLY, Message, Template, Tokenizer, on_top
from agentgym_rft.agents.template_shape import THOUGHT_FIELDS, find_shape
from agentgym_rft.agents.thoughts import Thought, has_channels, has_mark, read_reply
from agentgym_rft.agents.token_text import TokenText
from agentgym_rft.errors import PolicyError


class ChatFormat:
    """Turns messages into token ids with a tokenizer's chat template.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        action: how the agent's replies look; the template is probed with them.
        arguments: what the template is given beside the messages, such as `enable_thinking`.
        date: the day that the template is told, as YYYY-MM-DD; empty: today.
        cache_size: texts whose tokens are kept in memory.
    Attributes:
        stop_ids: tokens that end a reply, the template's own first.
        notes: a sentence on everything about the template that users would not expect.
    Raises:
        PolicyError: there is no chat template, it fails, does not show the user's message or the agent's reply, or
            nothing says how a reply ends.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        action: ActionCard,
        *,
        arguments: Mapping[str, Any] | None = None,
        date: str = "",
        cache_size: int = 8192,
    ) -> None:
        answer = format_action(REPLY, action)
        self._template = template = Template(tokenizer, answer, arguments or {}, date)
        self._shape = shape = find_shape(template, tokenizer, answer)
        self.stop_ids = shape.stop_ids
        self._tokens = TokenText(tokenizer, template.source, cache_size)
        self._control = ControlTokens(tokenizer, template.source, shape.stop_ids)
        # Text before an answer that is neither a thought nor white space; a reply is read without it.
        self._label = shape.gap if shape.gap.strip() and not has_mark(shape.gap, template.source) else ""
        # The same between an answer and the token that ends it.
        trail = shape.end.removesuffix(self._tokens.spell(shape.stop_ids[:1]))
        self._trail = trail if trail.strip() and not has_mark(trail, template.source) else ""
        forms = [self._said_in_fields] if has_channels(template.source) else [self._said_in_text, self._said_in_fields]
        self._said = best_form(template, shape, forms, answer)
        self._growth = Growth(template, shape, self._said, answer, thinks=action.thinks)
        self.is_growing = self._growth.is_growing
        self.notes = (*template.notes, *self._ending_note(), *self._thinking_note(action))

    def stays(self, ids: Sequence[int]) -> bool:
        """Return True if the row goes on after a sampled reply: the template shows it later as it was sampled."""
        kept = self._without_end(ids)
        label = self._label if len(self._tokens.without(kept, self._label)) < len(kept) else ""
        return self._growth.stays(label + self.text(ids).removeprefix(self._shape.opened))

    def render(self, messages: Sequence[Message]) -> str:
        """Return the conversation as text, ready for the assistant's next reply."""
        return self._prompt(messages).replace(BREAK, "")

    def opening(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return token ids of a whole conversation up to the assistant's next reply.

        What the user and the assistant say is text: control tokens that are spelt in it stay letters.
        """
        return self._tokens.encode(self._prompt(messages))

    def following(self, user_text: str, last_id: int | None, note: str = "") -> tuple[int, ...]:
        """Return token ids between a reply and the next one, for a growing row.

        Args:
            user_text: the next message of the user.
            last_id: the last sampled id; if it already ended the turn, the template's own end is not added.
            note: what the system says before the user; shown as `noted` does.
        """
        if self._growth.between is None:
            raise PolicyError("This chat template rewrites earlier turns; render the conversation whole.")
        before, after = self._growth.between
        note, user_text = self.as_text(note), self.as_text(user_text)
        text = before + user_text + after
        if note and self._growth.around_note is None:
            text = before + on_top(note, user_text) + after
        elif note and self._growth.around_note is not None:
            start, middle, end = self._growth.around_note
            text = start + note + middle + user_text + end
        return self._after_end(self._tokens.encode(text), last_id)

    def extension(
        self, messages: Sequence[Message], reply: str, later: Sequence[Message], last_id: int | None
    ) -> tuple[int, ...] | None:
        """Return token ids between a reply and the next one, whatever messages stand between.

        Args:
            messages: the conversation that the reply answered.
            reply: as `text` gave it.
            later: all that came after it.
            last_id: the last sampled id, as for `following`.
        Returns:
            None if the template shows earlier messages differently after later ones, so that the row cannot continue.
        """
        head = self._prompt(messages) + self._control.as_reply(reply.removeprefix(self._shape.opened))
        whole = self._prompt([*messages, {"role": "assistant", "content": reply}, *later])
        return self._after_end(self._tokens.encode(whole[len(head) :]), last_id) if whole.startswith(head) else None

    def noted(self, note: str, user_text: str) -> list[Message]:
        """Return a note before a message of the user, within a conversation.

        A system message of its own; where the template refuses that or puts it elsewhere, it tops the user's message.
        """
        if self._growth.around_note is None:
            return [{"role": "user", "content": on_top(note, user_text)}]
        return [{"role": "system", "content": self.as_text(note)}, {"role": "user", "content": user_text}]

    def as_text(self, text: str) -> str:
        """Return a text from outside such that no token of it is a control token, for a system message."""
        return self._control.as_text(text)

    def reply(self, text: str) -> tuple[int, ...]:
        """Return token ids of a reply as a policy would sample it, the end-of-turn token included.

        It is written as the template writes replies: it continues what the prompt began, and thinks in its tags.
        """
        own, reading = self._control.as_reply, read_reply(text)
        thought = None if reading.kind is Thought.NONE else own(reading.thought)
        written = self._shape.written(thought, own(reading.answer)) + self._shape.end
        ids = self._tokens.encode_after(self._shape.tail, written)
        return ids if self._shape.end else (*ids, self.stop_ids[0])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of sampled ids without special tokens, but with the marks of thoughts.

        It begins with the thought that the prompt opened, if it did.
        """
        said = self._tokens.decode(self._tokens.without(self._without_end(ids), self._label))
        return self._shape.opened + said.removesuffix(self._trail)

    def _without_end(self, ids: Sequence[int]) -> Sequence[int]:
        return ids[:-1] if len(ids) > 0 and ids[-1] in self.stop_ids else ids

    def _prompt(self, messages: Sequence[Message]) -> str:
        return self._template.prompt([self._shown(message) for message in messages])

    def _shown(self, message: Message) -> Message:
        """Return a message as the template is to show it: words that came from outside are text."""
        if message["role"] == "system":
            return message
        if message["role"] == "assistant":
            return self._said(str(message["content"]))
        return {**message, "content": self.as_text(str(message["content"]))}

    def _said_in_text(self, reply: str) -> Message:
        """Return the message that shows a reply with its thought as it was, without a space that the template adds."""
        gap = self._shape.gap if self._shape.gap.isspace() else ""
        said = reply.removeprefix(gap).removeprefix(self._label)
        return {"role": "assistant", "content": self._control.as_reply(said)}

    def _said_in_fields(self, reply: str) -> Message:
        """Return the message that shows a reply with its thought in a field: the template writes the tags itself."""
        own, reading = self._control.as_reply, read_reply(reply)
        thought = {} if not reading.thought else dict.fromkeys(THOUGHT_FIELDS, own(reading.thought))
        return {"role": "assistant", "content": own(reading.answer.strip()), **thought}

    def _after_end(self, ids: tuple[int, ...], last_id: int | None) -> tuple[int, ...]:
        """Return the ids of the text after a reply, without the end of the turn if the reply has one already."""
        divider = self._shape.divider
        if last_id not in self.stop_ids or divider not in ids or (self._shape.is_header and last_id != divider):
            return ids
        end = ids.index(divider)
        return ids[(ids.index(last_id) if last_id in ids[:end] else end) + 1 :]

    def _ending_note(self) -> tuple[str, ...]:
        if self._shape.end:
            return ()
        named = ", ".join(repr(self._tokens.spell([token])) for token in self.stop_ids)
        return (f"The chat template ends a reply with no token of its own: {named} does, by generation_config.json.",)

    def _thinking_note(self, action: ActionCard) -> tuple[str, ...]:
        if not self._shape.is_thinking or action.thinks:
            return ()
        has_switch = "enable_thinking" in self._template.source
        switch = "set chat_template_kwargs {enable_thinking: false}, or " if has_switch else ""
        return (
            "The chat template begins each reply with a thought, which the agent card does not ask for: "
            f"{switch}leave room for it in action.max_tokens (here {action.max_tokens}).",
        )
