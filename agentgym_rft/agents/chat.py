"""The only place where chat templates are rendered and chat text becomes tokens.

A template puts fixed text between two turns. That text is found once, by rendering probe conversations; each new turn
then only adds tokens to the row. Some templates rewrite earlier turns when later ones are added (Qwen3 drops old
thoughts): for them every turn is rendered whole and begins a new row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from jinja2 import TemplateError

from agentgym_rft.errors import PolicyError

_USER, _NOTE, _PAST = "§user§", "§note§", "§past§"


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that this package uses."""

    eos_token_id: int | None
    chat_template: Any

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str: ...

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...


Message = Mapping[str, str]


class ChatFormat:
    """Turns messages into token ids with a tokenizer's chat template.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        sample_reply: a typical reply of the agent; the template is probed with it.
        cache_size: texts whose tokens are kept in memory.
    Raises:
        PolicyError: there is no chat template, it fails, or it does not show the user's message.
    """

    def __init__(self, tokenizer: Tokenizer, sample_reply: str, *, cache_size: int = 8192) -> None:
        if not tokenizer.chat_template:
            raise PolicyError("The policy's tokenizer has no chat template; add one to its tokenizer_config.json.")
        self._tokenizer = tokenizer
        if _USER not in self.render([{"role": "system", "content": "s"}, {"role": "user", "content": _USER}]):
            raise PolicyError("The chat template does not show the user's message.")
        self._encode = lru_cache(maxsize=cache_size)(self._encode_text)
        self._decode = lru_cache(maxsize=cache_size)(self._decode_ids)
        # Two probes of different length show whether the template treats the first or the last turns differently.
        fragments = {self._fragment(sample_reply, num_turns) for num_turns in (1, 2)}
        self._between = fragments.pop() if len(fragments) == 1 else None
        self._around_note = self._note_fragment(sample_reply)
        self.stop_ids = self._stop_ids(sample_reply)

    @property
    def is_growing(self) -> bool:
        """True if earlier turns never change, so that a conversation is one growing row of tokens."""
        return self._between is not None

    def render(self, messages: Sequence[Message]) -> str:
        """Return the conversation as text, ready for the assistant's next reply."""
        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise PolicyError(f"The chat template cannot be rendered: {str(error).rstrip('.')}.") from error
        if not isinstance(text, str):
            raise PolicyError(f"The chat template rendered a {type(text).__name__}, expected text.")
        return text

    def opening(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return token ids of a whole conversation up to the assistant's next reply."""
        return self._encode(self.render(messages))

    def following(self, user_text: str, last_id: int | None, note: str = "") -> tuple[int, ...]:
        """Return token ids between a reply and the next one, for a growing row.

        Args:
            user_text: the next message of the user.
            last_id: the last sampled id; if it already ended the turn, the end token is not repeated.
            note: what the system says before the user; shown as `noted` does.
        """
        if self._between is None:
            raise PolicyError("This chat template rewrites earlier turns; render the conversation whole.")
        before, after = self._between
        text = before + user_text + after
        if note and self._around_note is None:
            text = before + _on_top(note, user_text) + after
        elif note and self._around_note is not None:
            start, middle, end = self._around_note
            text = start + note + middle + user_text + end
        return _without_repeated(self._encode(text), last_id)

    def extension(
        self, messages: Sequence[Message], reply: str, later: Sequence[Message], last_id: int | None
    ) -> tuple[int, ...] | None:
        """Return token ids between a reply and the next one, whatever messages stand between.

        Args:
            messages: the conversation that the reply answered.
            later: all that came after it.
            last_id: the last sampled id, as for `following`.
        Returns:
            None if the template shows earlier messages differently after later ones, so that the row cannot continue.
        """
        head = self.render(messages) + reply
        whole = self.render([*messages, {"role": "assistant", "content": reply}, *later])
        return _without_repeated(self._encode(whole[len(head) :]), last_id) if whole.startswith(head) else None

    def noted(self, note: str, user_text: str) -> list[Message]:
        """Return a note before a message of the user, within a conversation.

        A system message of its own; where the template refuses that or puts it elsewhere, it tops the user's message.
        """
        if self._around_note is None:
            return [{"role": "user", "content": _on_top(note, user_text)}]
        return [{"role": "system", "content": note}, {"role": "user", "content": user_text}]

    def reply(self, text: str) -> tuple[int, ...]:
        """Return token ids of a reply as a policy would sample it, the end-of-turn token included."""
        return (*self._encode(text), self.stop_ids[0])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of sampled ids, without special tokens."""
        return self._decode(tuple(ids))

    def _encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _decode_ids(self, ids: tuple[int, ...]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def _fragment(self, reply: str, num_turns: int) -> tuple[str, str] | None:
        """Return the template's text around the user's message after `num_turns` replies, or None if it rewrote
        history.
        """
        messages: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        for turn in range(num_turns):
            if turn:
                messages.append({"role": "user", "content": f"u{turn}"})
            head = self.render(messages) + reply
            messages.append({"role": "assistant", "content": reply})
        whole = self.render([*messages, {"role": "user", "content": _USER}])
        if not whole.startswith(head):
            return None
        before, found, after = whole[len(head) :].partition(_USER)
        if not found:
            raise PolicyError("The chat template does not show the user's message.")
        return before, after

    def _note_fragment(self, reply: str) -> tuple[str, str, str] | None:
        """Return the template's text around a system note and the user's message after a reply.

        None if the template refuses such a note, drops it, moves it or, where a conversation grows, rewrites history
        for it. Where a conversation does not grow, only the fact that it is not None is of use.
        """
        messages: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": _PAST}]
        noted: list[Message] = [{"role": "system", "content": _NOTE}, {"role": "user", "content": _USER}]
        replied: Message = {"role": "assistant", "content": reply}
        try:
            whole = self.render([*messages, replied, *noted])
            later = self.render([*messages, replied, *noted, replied, {"role": "user", "content": "u"}])
        except PolicyError:
            return None
        at = [whole.find(mark) for mark in (_PAST, _NOTE, _USER)]
        if -1 in at or at != sorted(at) or any(whole.count(mark) != 1 for mark in (_PAST, _NOTE, _USER)):
            return None
        head = self.render(messages) + reply
        if self._between is not None and later != whole + reply + self._between[0] + "u" + self._between[1]:
            return None
        start, _, rest = whole[len(head) :].partition(_NOTE)
        middle, _, end = rest.partition(_USER)
        return (start, middle, end) if self._between is None or whole.startswith(head) else None

    def _stop_ids(self, reply: str) -> tuple[int, ...]:
        """Return the template's own end-of-turn token first, then the tokenizer's end-of-sequence token."""
        eos = self._tokenizer.eos_token_id
        ids: list[int] = []
        if self._between is not None:
            before = self._encode(self._between[0])
            if before and not self.text(before[:1]):  # a special token decodes to nothing
                ids.append(before[0])
        if eos is not None and eos not in ids:
            ids.append(eos)
        if not ids:
            raise PolicyError("The tokenizer has neither an end-of-turn nor an end-of-sequence token.")
        return tuple(ids)


def _without_repeated(ids: tuple[int, ...], last_id: int | None) -> tuple[int, ...]:
    """Return the ids of the text after a reply, without the end token if the reply already has it."""
    return ids[1:] if last_id is not None and ids and ids[0] == last_id else ids


def _on_top(note: str, user_text: str) -> str:
    return f"{note}\n\n{user_text}"
