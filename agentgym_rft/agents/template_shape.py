"""Finds out how a chat template writes a reply: what stands before it, how it thinks, and which tokens end it.

All of it is read off conversations that the template renders, so that no family of models has to be known by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.template import LATER, USER, Message, Template, Tokenizer
from agentgym_rft.agents.thoughts import (
    ANSWER_ENDS,
    PAIRS,
    Thought,
    has_channels,
    has_mark,
    mark_tokens,
    opened_thought,
    read_reply,
)
from agentgym_rft.errors import PolicyError

# Attribute of a loaded tokenizer: the end tokens of its model's generation configuration, which no tokenizer file has.
GENERATION_STOP_IDS = "generation_stop_ids"

_THOUGHT = "§thought§"
THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")  # of a message; each template knows one of them
_CALL = "<|call|>"  # ends a turn of a model that writes in channels, with a call of a tool


@dataclass(frozen=True, slots=True)
class Shape:
    """The template's own text in and around a reply.

    Attributes:
        tail: the prompt from the user's message on, without that message.
        opened: the end of the prompt from the thought on that it opens, or opens and closes.
        around_thought: what stands before and after a thought; before it, nothing if the prompt opened it.
        gap: what the template puts between the prompt and an answer without a thought.
        end: what ends a reply, the token for that included.
        stop_ids: tokens that end a reply; the template's own comes first.
        divider: the first control token after a reply in earlier turns; None: there is none.
        is_header: True if the divider begins the user's turn, so that it is needed whatever ended the reply.
    """

    tail: str
    opened: str
    around_thought: tuple[str, str]
    gap: str
    end: str
    stop_ids: tuple[int, ...]
    divider: int | None
    is_header: bool

    def written(self, thought: str | None, answer: str) -> str:
        """Return a reply as the template has it, from where the prompt ends; `thought` is None for none at all."""
        if self.opened and not self.is_thinking:
            return f"<think>{thought}</think>{answer}" if thought else self.gap + answer
        is_needless = thought is None or (not thought and has_channels(self.gap))
        if is_needless and not self.is_thinking:
            return self.gap + answer
        before, after = self.around_thought
        return f"{before}{thought or ''}{after}{answer}"

    @property
    def is_thinking(self) -> bool:
        """True if the prompt opens a thought that the reply has to close."""
        return bool(self.opened) and read_reply(self.opened).kind is Thought.OPEN


def find_shape(template: Template, tokenizer: Tokenizer, answer: str) -> Shape:
    """Return how a template writes replies like `answer`, as `Template` takes it.

    Raises `PolicyError` if nothing shows how a reply ends.
    """
    asked: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": USER}]
    replied: list[Message] = [*asked, {"role": "assistant", "content": answer}]
    prompt = template.prompt(asked)
    tail = prompt.rpartition(USER)[2]
    opened = opened_thought(tail)
    whole = template.history([*replied, {"role": "user", "content": LATER}])
    after = whole.partition(answer)[2]
    gap = "" if opened and read_reply(opened).kind is Thought.OPEN else _gap(template, answer)
    tokens = _control_texts(tokenizer, template.source)
    between = after.partition(LATER)[0]
    closing = template.history(replied).rpartition(answer)[2]
    divider, last = _first_token(between, tokens), _first_token(closing, tokens)
    return Shape(
        tail=tail,
        opened=opened,
        around_thought=_around_thought(template, asked, answer, opened, gap),
        gap=gap,
        end=_up_to(closing, last) or _up_to(between, divider),
        stop_ids=_stop_ids(tokenizer, template, last, divider, tokens),
        divider=None if divider is None else tokens[divider],
        is_header=divider is not None and not between.removeprefix(_up_to(between, divider)).strip(),
    )


def _gap(template: Template, answer: str) -> str:
    """Return what the template puts between the prompt and a reply without a thought, once the user spoke again.

    Without a system message, which some templates move to the last message of the user.
    """
    asked: list[Message] = [{"role": "user", "content": USER}]
    prompt = template.prompt(asked)
    whole = template.history([*asked, {"role": "assistant", "content": answer}, {"role": "user", "content": LATER}])
    return whole.partition(answer)[0].removeprefix(prompt) if whole.startswith(prompt) else ""


def _control_texts(tokenizer: Tokenizer, source: str) -> dict[str, int]:
    """Return the added tokens that may end a reply: no white space, and of the marks only those that end an answer."""
    found = {str(token): token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    inner = mark_tokens(found, source) - ANSWER_ENDS
    return {text: token_id for text, token_id in found.items() if text.strip() and text not in inner}


def _first_token(text: str, tokens: Mapping[str, int]) -> str | None:
    """Return the first of the tokens in a text; of two that begin there, the longer one."""
    return min((t for t in tokens if t in text), key=lambda t: (text.find(t), -len(t)), default=None)


def _up_to(text: str, token: str | None) -> str:
    return "" if token is None else text[: text.find(token) + len(token)]


def _stop_ids(
    tokenizer: Tokenizer, template: Template, last: str | None, divider: str | None, tokens: Mapping[str, int]
) -> tuple[int, ...]:
    """Return the tokens that end a reply.

    They are what the template puts after the last reply and after an earlier one, what the model's generation
    configuration names, and the tokenizer's end of the sequence. In channels the end of an earlier reply ends every
    message, thoughts too, and does not count.
    """
    in_channels = has_channels(template.source)
    shown = [last, _CALL] if in_channels else [last, divider]
    configured: tuple[int, ...] = getattr(tokenizer, GENERATION_STOP_IDS, ())
    ids = [tokens[text] for text in shown if text is not None and text in tokens]
    if not ids and not configured:
        raise PolicyError(
            "The chat template ends a reply with no token of its own, so nothing says when the model is done. Add the "
            "end-of-turn token to the template, or name it as eos_token_id in generation_config.json."
        )
    added = {token_id: str(token) for token_id, token in tokenizer.added_tokens_decoder.items()}
    eos = tokenizer.eos_token_id
    # A token that marks thoughts does not end a reply, even if the tokenizer calls it the end of a sequence.
    is_mark = eos in added and bool(mark_tokens([added[eos]], template.source))
    eos_ids = [] if eos is None or is_mark else [eos]
    return tuple(dict.fromkeys([*ids, *configured, *eos_ids]))


def _around_thought(template: Template, asked: list[Message], answer: str, opened: str, gap: str) -> tuple[str, str]:
    """Return the text before and after a thought: as the template writes one itself, or as its kind of tags is used."""
    prompt = template.prompt(asked)
    for field in THOUGHT_FIELDS:
        replied: dict[str, Any] = {"role": "assistant", "content": answer, field: _THOUGHT}
        try:
            whole = template.history([*asked, replied])
        except PolicyError:
            continue
        if whole.startswith(prompt) and whole.count(_THOUGHT) == 1:
            before, _, rest = whole[len(prompt) :].partition(_THOUGHT)
            after, found, _ = rest.partition(answer)
            reading = read_reply(f"{opened}{before}{_THOUGHT}{after}{answer}")
            if found and (reading.thought, reading.answer.strip()) == (_THOUGHT, answer):
                return before, after
    before, after = _usual_thought(template.source, opened)
    return before if has_mark(gap, template.source) else gap + before, after


def _usual_thought(source: str, opened: str) -> tuple[str, str]:
    if has_channels(opened):
        return "", "<|end|><|start|>assistant<|channel|>final<|message|>"
    if opened:
        closing = next((closing for opening, closing in PAIRS if opened.strip() == opening), None)
        if closing is None:
            return "", ""
        line = "\n" if opened.endswith("\n") else ""
        return "", f"{line}{closing}{line}{line}"
    for opening, closing in PAIRS:
        if closing in source:
            return f"{opening}\n", f"\n{closing}\n\n"
    return "<think>", "</think>"
