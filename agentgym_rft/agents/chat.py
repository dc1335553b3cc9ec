"""Chat text as tokens: what a prompt adds to a row, and what a reply says.

A template puts fixed text between two turns. That text is found once, by rendering probe conversations; each new turn
then only adds tokens to the row. Some templates rewrite earlier turns when later ones are added (Qwen3 drops old
thoughts): after such a reply every turn is rendered whole and begins a new row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from agentgym_rft.agents.card import ActionCard
from agentgym_rft.agents.control_tokens import BREAK, ControlTokens
from agentgym_rft.agents.parse import format_action
from agentgym_rft.agents.template import REPLY, USER, Message, Template, Tokenizer, on_top
from agentgym_rft.agents.template_shape import find_shape
from agentgym_rft.agents.thoughts import Thought, has_channels, read_reply, thought_marks
from agentgym_rft.errors import PolicyError

_NOTE, _PAST = "§note§", "§past§"


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
        self._tokenizer = tokenizer
        self._template = Template(tokenizer, answer, arguments or {}, date)
        self._shape = find_shape(self._template, tokenizer, answer)
        self.stop_ids = self._shape.stop_ids
        self._control = ControlTokens(tokenizer, self._template.source, self.stop_ids)
        self._kept = _kept_ids(tokenizer, self._template.source)
        self._encode = lru_cache(maxsize=cache_size)(self._encode_text)
        self._decode = lru_cache(maxsize=cache_size)(self._decode_ids)
        self._samples = self._probes(answer)
        wanted = self._kind(self._shape.written("t" if action.thinks else None, answer))
        fragments = self._fragments(wanted)
        self._between = fragments[wanted] or next(filter(None, fragments.values()), None)
        self._growing = frozenset(kind for kind, found in fragments.items() if found and found == self._between)
        self.is_growing = wanted in self._growing
        self._around_note = self._note_fragment(self._samples[wanted])
        self.notes = (*self._template.notes, *self._thinking_note(action))

    def grows(self, thought: Thought) -> bool:
        """Return True if the row goes on after a reply with such a thought: the template never changes it later."""
        return thought in self._growing

    def render(self, messages: Sequence[Message]) -> str:
        """Return the conversation as text, ready for the assistant's next reply."""
        return self._prompt(messages).replace(BREAK, "")

    def opening(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return token ids of a whole conversation up to the assistant's next reply.

        What the user and the assistant say is text: control tokens that are spelt in it stay letters.
        """
        return self._encode(self._prompt(messages))

    def following(self, user_text: str, last_id: int | None, note: str = "") -> tuple[int, ...]:
        """Return token ids between a reply and the next one, for a growing row.

        Args:
            user_text: the next message of the user.
            last_id: the last sampled id; if it already ended the turn, the template's own end is not added.
            note: what the system says before the user; shown as `noted` does.
        """
        if self._between is None:
            raise PolicyError("This chat template rewrites earlier turns; render the conversation whole.")
        before, after = self._between
        note, user_text = self.as_text(note), self.as_text(user_text)
        text = before + user_text + after
        if note and self._around_note is None:
            text = before + on_top(note, user_text) + after
        elif note and self._around_note is not None:
            start, middle, end = self._around_note
            text = start + note + middle + user_text + end
        return self._after_end(self._encode(text), last_id)

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
        return self._after_end(self._encode(whole[len(head) :]), last_id) if whole.startswith(head) else None

    def noted(self, note: str, user_text: str) -> list[Message]:
        """Return a note before a message of the user, within a conversation.

        A system message of its own; where the template refuses that or puts it elsewhere, it tops the user's message.
        """
        if self._around_note is None:
            return [{"role": "user", "content": on_top(note, user_text)}]
        return [{"role": "system", "content": self.as_text(note)}, {"role": "user", "content": user_text}]

    def as_text(self, text: str) -> str:
        """Return a text from outside such that no token of it is a control token, for a system message."""
        return self._control.as_text(text)

    def reply(self, text: str) -> tuple[int, ...]:
        """Return token ids of a reply as a policy would sample it, the end-of-turn token included.

        It is written as the template writes replies: it continues what the prompt began, and thinks in its tags.
        """
        reading = read_reply(text)
        thought = None if reading.kind is Thought.NONE else reading.thought
        written = self._shape.written(thought, self._control.as_reply(reading.answer)) + self._shape.end
        before, whole = self._encode(self._shape.tail), self._encode(self._shape.tail + written)
        ids = whole[len(before) :] if whole[: len(before)] == before else self._encode(written)
        return ids if self._shape.end else (*ids, self.stop_ids[0])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of sampled ids without special tokens, but with the marks of thoughts.

        It begins with the thought that the prompt opened, if it did.
        """
        is_ended = len(ids) > 0 and ids[-1] in self.stop_ids
        return self._shape.opened + self._decode(tuple(ids[:-1] if is_ended else ids))

    def _prompt(self, messages: Sequence[Message]) -> str:
        return self._template.prompt([self._shown(message) for message in messages])

    def _shown(self, message: Message) -> Message:
        """Return a message as the template is to show it: words that came from outside are text."""
        if message["role"] == "system":
            return message
        content = str(message["content"])
        is_own = message["role"] == "assistant"
        shown = self._control.as_reply(self._content(content)) if is_own else self.as_text(content)
        return {**message, "content": shown}

    def _content(self, reply: str) -> str:
        """Return a reply as a template takes it: of channels only the answer, and no space that it adds itself."""
        if has_channels(reply):
            return read_reply(reply).answer
        return reply.removeprefix(self._shape.gap) if self._shape.gap.isspace() else reply

    def _encode_text(self, text: str) -> tuple[int, ...]:
        pieces = text.split(BREAK)
        return tuple(i for piece in pieces for i in self._tokenizer.encode(piece, add_special_tokens=False))

    def _decode_ids(self, ids: tuple[int, ...]) -> str:
        """Return the text of ids. Marks of thoughts that are special tokens stand between pieces that are decoded."""
        pieces: list[str] = []
        start = 0
        for at, token in enumerate(ids):
            if token in self._kept:
                pieces += [self._tokenizer.decode(list(ids[start:at]), skip_special_tokens=True), self._kept[token]]
                start = at + 1
        return "".join([*pieces, self._tokenizer.decode(list(ids[start:]), skip_special_tokens=True)])

    def _after_end(self, ids: tuple[int, ...], last_id: int | None) -> tuple[int, ...]:
        """Return the ids of the text after a reply, without the end of the turn if the reply has one already."""
        divider = self._shape.divider
        if last_id not in self.stop_ids or divider not in ids or (self._shape.is_header and last_id != divider):
            return ids
        end = ids.index(divider)
        return ids[(ids.index(last_id) if last_id in ids[:end] else end) + 1 :]

    def _kind(self, sampled: str) -> Thought:
        return read_reply(self._shape.opened + sampled).kind

    def _probes(self, answer: str) -> dict[Thought, str]:
        """Return a reply of each kind, as a model would sample it; not every kind can follow every prompt."""
        written, before = self._shape.written, self._shape.around_thought[0]
        texts = (written(None, answer), answer, written("", answer), written("t", answer), f"{before}t")
        return {self._kind(text): text for text in reversed(texts)}

    def _fragments(self, wanted: Thought) -> dict[Thought, tuple[str, str] | None]:
        """Return the template's text around the user's message after each kind of reply.

        Raises `PolicyError` if the template cannot show the replies that the card asks for.
        """
        found: dict[Thought, tuple[str, str] | None] = {}
        for kind, sample in self._samples.items():
            try:
                # Two probes of different length show whether the first or the last turns are treated differently.
                fragments = {self._fragment(sample, num_turns) for num_turns in (1, 2)}
            except PolicyError:
                if kind is wanted:
                    raise
                fragments = {None}
            found[kind] = fragments.pop() if len(fragments) == 1 else None
        return found

    def _fragment(self, sample: str, num_turns: int) -> tuple[str, str] | None:
        """Return the template's text around the user's message after `num_turns` replies, or None if it rewrote
        history.
        """
        messages: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        for turn in range(num_turns):
            if turn:
                messages.append({"role": "user", "content": f"u{turn}"})
            head = self._template.prompt(messages) + sample
            messages.append(self._replied(sample))
        whole = self._template.prompt([*messages, {"role": "user", "content": USER}])
        if not whole.startswith(head):
            return None
        before, found, after = whole[len(head) :].partition(USER)
        if not found:
            raise PolicyError("The chat template does not show the user's message.")
        return before, after

    def _replied(self, sample: str) -> Message:
        return {"role": "assistant", "content": self._content(self._shape.opened + sample)}

    def _note_fragment(self, sample: str) -> tuple[str, str, str] | None:
        """Return the template's text around a system note and the user's message after a reply.

        None if the template refuses such a note, drops it, moves it or, where a conversation grows, rewrites history
        for it. Where a conversation does not grow, only the fact that it is not None is of use.
        """
        messages: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": _PAST}]
        noted: list[Message] = [{"role": "system", "content": _NOTE}, {"role": "user", "content": USER}]
        replied = self._replied(sample)
        render = self._template.prompt
        try:
            whole = render([*messages, replied, *noted])
            later = render([*messages, replied, *noted, replied, {"role": "user", "content": "u"}])
        except PolicyError:
            return None
        at = [whole.find(mark) for mark in (_PAST, _NOTE, USER)]
        if -1 in at or at != sorted(at) or any(whole.count(mark) != 1 for mark in (_PAST, _NOTE, USER)):
            return None
        head = render(messages) + sample
        if self._between is not None and later != whole + sample + self._between[0] + "u" + self._between[1]:
            return None
        start, _, rest = whole[len(head) :].partition(_NOTE)
        middle, _, end = rest.partition(USER)
        return (start, middle, end) if self._between is None or whole.startswith(head) else None

    def _thinking_note(self, action: ActionCard) -> tuple[str, ...]:
        if not self._shape.is_thinking or action.thinks:
            return ()
        has_switch = "enable_thinking" in self._template.source
        switch = "set chat_template_kwargs {enable_thinking: false}, or " if has_switch else ""
        return (
            "The chat template begins each reply with a thought, which the agent card does not ask for: "
            f"{switch}leave room for it in action.max_tokens (here {action.max_tokens}).",
        )


def _kept_ids(tokenizer: Tokenizer, source: str) -> dict[int, str]:
    """Return the special tokens that mark thoughts, which decoding must not leave out, and their texts."""
    marks = thought_marks(source)
    tokens = tokenizer.added_tokens_decoder.items()
    return {token_id: str(token) for token_id, token in tokens if token.special and str(token) in marks}
