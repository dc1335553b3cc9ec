"""Text to tokens and back, with breaks that keep text from outside text, and with marks of thoughts that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from agentgym_rft.agents.control_tokens import BREAK
from agentgym_rft.agents.template import Tokenizer
from agentgym_rft.agents.thoughts import mark_tokens


class TokenText:
    """Encodes and decodes with a tokenizer; the tokens of `cache_size` texts are kept in memory.

    Args:
        source: text of the chat template.
    """

    def __init__(self, tokenizer: Tokenizer, source: str, cache_size: int) -> None:
        self._tokenizer = tokenizer
        special = {token_id: str(token) for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
        marks = mark_tokens(special.values(), source)
        self._kept = {token_id: text for token_id, text in special.items() if text in marks}
        self._encode = lru_cache(maxsize=cache_size)(self._encode_text)
        self._decode = lru_cache(maxsize=cache_size)(self._decode_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text; its pieces between breaks are encoded one by one."""
        return self._encode(text)

    def encode_after(self, before: str, text: str) -> tuple[int, ...]:
        """Return the ids of a text that follows another, which is not encoded again."""
        start, whole = self._encode(before), self._encode(before + text)
        return whole[len(start) :] if whole[: len(start)] == start else self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids without special tokens, but with the marks of thoughts."""
        return self._decode(tuple(ids))

    def spell(self, ids: Sequence[int]) -> str:
        """Return the text of ids with all special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def without(self, ids: Sequence[int], start: str) -> Sequence[int]:
        """Return ids without the first ones if these spell `start`, else all of them."""
        if not start:
            return ids
        for count in range(1, len(ids) + 1):
            spelt = self.spell(ids[:count])
            if spelt == start:
                return ids[count:]
            if len(spelt) > len(start):
                break
        return ids

    def _encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(i for piece in text.split(BREAK) for i in self._tokenizer.encode(piece, add_special_tokens=False))

    def _decode_ids(self, ids: tuple[int, ...]) -> str:
        pieces: list[str] = []
        start = 0
        for at, token in enumerate(ids):
            if token in self._kept:
                pieces += [self._tokenizer.decode(list(ids[start:at]), skip_special_tokens=True), self._kept[token]]
                start = at + 1
        return "".join([*pieces, self._tokenizer.decode(list(ids[start:]), skip_special_tokens=True)])
