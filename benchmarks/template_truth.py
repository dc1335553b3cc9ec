"""Says what is right for a chat template, from its own renderings and from what models of its family write.

Nothing here uses the package's chat code: it is what that code is judged by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REPLY, NEXT, FIRST, SYSTEM = "qreplyq", "qnextq", "qfirstq", "qsystemq"
_THOUGHT = "qthoughtq"
HARMONY = "<|channel|>final<|message|>"
# The tags around thoughts in models that people use.
PAIRS = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<thought>", "</thought>"),
)
Message = Mapping[str, Any]


class Unrenderable(Exception):
    """The template fails, or shows not what it is given."""


@dataclass(frozen=True)
class Reply:
    """A reply of a model: its text without end token, what it thought, and what it answered."""

    text: str
    thought: str
    answer: str


@dataclass(frozen=True)
class Truth:
    """What is right for one template with one tokenizer.

    Args:
        system: "own" if the template shows a system message, else "folded".
        end: the token that ends a reply; None if the template shows none.
        pair: the tags around thoughts; ("", "") without.
        opened: what a prompt begins of the reply, "" for most.
        style: "none", "reply" (the model opens its thought), "opens", "closes" (the prompt does) or "channel".
        header: the assistant's header where the template leaves it out of the prompt.
    """

    system: str
    end: int | None
    stops: frozenset[int]
    never_stops: frozenset[int]
    pair: tuple[str, str]
    opened: str
    style: str
    header: str


def render(tokenizer: Any, messages: Sequence[Message], *, generation: bool = True, **options: Any) -> str:
    """Return a conversation as the template writes it. Raises `Unrenderable`."""
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation, **options
        )
    except Exception as error:  # templates raise whatever they like
        raise Unrenderable(f"{type(error).__name__}: {error}") from error
    return str(text)


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, **fields: str) -> Message:
    return {"role": "assistant", "content": text, **fields}


def examine(tokenizer: Any, **options: Any) -> Truth:
    """Return the truth of a template. Raises `Unrenderable` if it cannot hold a conversation in text."""
    prompt = render(tokenizer, [user(FIRST)], **options)
    history = render(tokenizer, [user(FIRST), assistant(REPLY), user(NEXT)], **options)
    for text, of in ((FIRST, prompt), (NEXT, history), (REPLY, history)):
        if text not in of:
            raise Unrenderable("a message is not shown")
    end = _end(tokenizer, history.rpartition(REPLY)[2].partition(NEXT)[0])
    pair, opened, style = _thoughts(tokenizer, prompt.rpartition(FIRST)[2])
    is_channel = style == "channel"
    channel_ends = {tokenizer.convert_tokens_to_ids(token) for token in ("<|return|>", "<|call|>")}
    stops = channel_ends if is_channel else {end} - {None}
    return Truth(
        system="own" if _shows_system(tokenizer, options) else "folded",
        end=end,
        stops=frozenset(stops),
        never_stops=frozenset({tokenizer.convert_tokens_to_ids("<|end|>")} if is_channel else ()),
        pair=pair,
        opened=opened,
        style=style,
        header=_missing_header(tokenizer, prompt, options),
    )


def _shows_system(tokenizer: Any, options: Mapping[str, Any]) -> bool:
    try:
        return SYSTEM in render(tokenizer, [{"role": "system", "content": SYSTEM}, user(FIRST)], **options)
    except Unrenderable:
        return False


def _end(tokenizer: Any, between: str) -> int | None:
    """Return the first control token after a reply in history; only white space may come before it."""
    added = tokenizer.added_tokens_decoder
    ids = encode(tokenizer, between)
    at = next((index for index, token in enumerate(ids) if token in added), None)
    return None if at is None or tokenizer.decode(ids[:at]).strip() else ids[at]


def _thoughts(tokenizer: Any, tail: str) -> tuple[tuple[str, str], str, str]:
    """Return the tags, what the prompt opened, and the style, from the text after the last message of the user."""
    template = str(tokenizer.chat_template)
    if HARMONY in template:
        return ("<|channel|>analysis<|message|>", "<|end|>"), "", "channel"
    for opening, close in PAIRS:
        if close in tail:
            return (opening, close), "", "closes"
        if opening in tail:
            return (opening, close), opening + tail.partition(opening)[2], "opens"
    for opening, close in PAIRS:
        if opening in template and close in template:
            return (opening, close), "", "reply"
    return ("", ""), "", "none"


def _missing_header(tokenizer: Any, prompt: str, options: Mapping[str, Any]) -> str:
    """Return the header before a reply in history that the prompt lacks although it was asked for."""
    if prompt != render(tokenizer, [user(FIRST)], generation=False, **options):
        return ""
    told = render(tokenizer, [user(FIRST), assistant(REPLY)], generation=False, **options)
    header = told[len(prompt) :].partition(REPLY)[0] if told.startswith(prompt) else ""
    return header if header.strip() else ""


def own_turns(tokenizer: Any, truth: Truth, thought: str, answer: str, **options: Any) -> list[str]:
    """Return the template's own texts of an assistant's turn after the prompt, the end token included.

    They are the text of the last turn and, where the prompt and history agree, that of an earlier turn.
    """
    prompt = render(tokenizer, [user(FIRST)], **options) + truth.header
    texts = []
    for message in forms(truth, Reply("", thought, answer)):
        for later in ([], [user(NEXT)]):
            try:
                whole = render(tokenizer, [user(FIRST), message, *later], generation=bool(later), **options)
            except Unrenderable:
                continue
            head, mark, rest = whole[len(prompt) :].partition(answer)
            closed = _closed(tokenizer, truth, rest, is_last=not later)
            if whole.startswith(prompt) and mark and closed is not None and (not thought or thought in head):
                texts.append(head + answer + closed)
    return list(dict.fromkeys(texts))


def _closed(tokenizer: Any, truth: Truth, rest: str, *, is_last: bool) -> str | None:
    """Return what follows an answer up to its end token; None if it is no end that a model writes."""
    if truth.style == "channel":
        return "<|return|>" if rest.startswith("<|return|>") else None
    end = "" if truth.end is None else tokenizer.decode([truth.end])
    before, found, _ = rest.partition(end) if end else ("", "", "")
    if found:
        return before + end
    return end if is_last else None


def model_reply(tokenizer: Any, truth: Truth, thought: str, answer: str, **options: Any) -> Reply:
    """Return a reply as a model of the family writes it; without a thought, only the answer."""
    opening, close = truth.pair
    if truth.style == "channel":
        told = f"{opening}{thought}{close}<|start|>assistant" if thought else ""
        return Reply(told + HARMONY + answer, thought, answer)
    if not thought or truth.style in ("none", "closes"):
        return Reply(answer, "", answer)
    for text in own_turns(tokenizer, truth, thought, answer, **options):
        if close in text:
            body = text.rpartition(answer)[0] + answer
            return Reply(body, thought, answer)
    begun = "" if truth.opened else opening.rstrip("\n") + "\n"
    return Reply(f"{begun}{thought}\n{close}\n\n{answer}", thought, answer)


def is_balanced(truth: Truth, text: str) -> bool:
    """Return whether every thought in a conversation is begun and ended once, the one begun by the prompt apart."""
    opening, close = (tag.strip() for tag in truth.pair)
    if not opening:
        return True
    doubled = re.search(re.escape(close) + r"\s*" + re.escape(opening), text)
    return not doubled and text.count(opening) - bool(truth.opened) == text.count(close)


def forms(truth: Truth, reply: Reply) -> list[Message]:
    """Return the ways in which a reply may be put into history; the first ones keep its words as they were."""
    opening, close = truth.pair
    fields = {"reasoning_content": reply.thought, "thinking": reply.thought, "reasoning": reply.thought}
    found = []
    if reply.text and truth.style != "channel":
        found.append(assistant((truth.opened + reply.text).strip()))
    if reply.thought and opening and truth.style != "channel":
        found.append(assistant(f"{opening.rstrip()}\n{reply.thought}\n{close}\n\n{reply.answer}"))
    if reply.thought:
        found.append(assistant(reply.answer, **fields))
    found.append(assistant(reply.answer))
    return found
