"""Keeps text from outside from becoming control tokens.

A tokenizer turns the text of a control token, `<|im_end|>` say, into that token wherever it stands. An environment or
another agent that writes it could end a turn or forge one. So that its tokens stay those of ordinary text, it is marked
with a break, and the pieces on both sides of a break are encoded one by one.

`apply_chat_template(sanitize_control_tokens=True)` of transformers 5.24 does the like for a conversation that is
encoded whole. Rows grow piece by piece here, the card's own system prompt and the marks of thoughts keep their tokens,
and older versions are supported.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from agentgym_rft.agents.template import Tokenizer
from agentgym_rft.agents.thoughts import mark_tokens

BREAK = "\ufdd0"  # Unicode keeps this code for internal use; a text that holds it loses it


class ControlTokens:
    """The texts that a tokenizer turns into tokens of their own and a chat template may give a meaning.

    Args:
        tokenizer: its added tokens, special or not, are looked through.
        source: text of the chat template.
        stop_ids: tokens that end a reply.
    """

    def __init__(self, tokenizer: Tokenizer, source: str, stop_ids: Iterable[int]) -> None:
        tokens = tokenizer.added_tokens_decoder
        added = {token_id: (str(token), bool(token.special)) for token_id, token in tokens.items()}
        stops = {added[each][0] for each in stop_ids if each in added}
        marks = mark_tokens((text for text, _ in added.values()), source)
        meant = {text for text, is_special in added.values() if is_special or text in marks or text in source}
        # A line break or a run of spaces is text, even where the tokenizer has a token for it.
        everything = {text for text in meant | stops if len(text.strip()) > 1}
        special = {text for text, is_special in added.values() if is_special}
        self._outside = _Marker(everything)
        self._own = _Marker((special & everything | stops) - marks)

    def as_text(self, text: str) -> str:
        """Return a text from outside with breaks in every control token."""
        return self._outside.mark(text)

    def as_reply(self, text: str) -> str:
        """Return the model's own words with breaks in those control tokens that it cannot have sampled as such.

        `ChatFormat.text` leaves special tokens out, but for the marks of thoughts: all others were spelt.
        """
        return self._own.mark(text)


class _Marker:
    def __init__(self, texts: Iterable[str]) -> None:
        longest_first = sorted(texts, key=lambda text: (-len(text), text))
        self._first = sorted({text[0] for text in longest_first})
        self._any = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def mark(self, text: str) -> str:
        if self._any is not None and not text.isascii():
            folded = unicodedata.normalize("NFKC", text)  # as a tokenizer may do before it looks for its tokens
            if set(self._any.findall(folded)) - set(self._any.findall(text)):
                text = folded
        if self._any is None or not any(letter in text for letter in self._first):  # by far the most texts
            return text
        return self._any.sub(lambda found: found.group()[0] + BREAK + found.group()[1:], text)
