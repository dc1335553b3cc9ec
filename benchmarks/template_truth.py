"""Says what is right for a chat template, from its own renderings and from what models of its family write.

Nothing here uses the package's chat code: it is what that code is judged by.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REPLY, NEXT, FIRST, SYSTEM = "qreplyq", "qnextq", "qfirstq", "qsystemq"
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
class Renderer:
    """A tokenizer with the arguments that its chat template gets.

    Args:
        has_parts: the template takes a message as a list of parts, not as text.
    """

    tokenizer: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    has_parts: bool = False

    def __call__(self, messages: Sequence[Message], *, generation: bool = True) -> str:
        """Return a conversation as the template writes it. Raises `Unrenderable`."""
        shown = [{**message, "content": self._content(message["content"])} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                shown, tokenize=False, add_generation_prompt=generation, **self.options
            )
        except Exception as error:  # templates raise whatever they like
            raise Unrenderable(f"{type(error).__name__}: {error}") from error
        return str(text)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids)))

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.has_parts else text


@dataclass(frozen=True)
class Truth:
    """What is right for one template with one tokenizer.

    Args:
        system: "own" if the template shows a system message, else "folded".
        ends: the tokens that end a reply, in order; none if the template shows none. One of them must stop sampling.
        closing: what follows an answer, up to the last end.
        is_next_header: what ends a reply also begins the next message.
        never_stops: tokens that must not stop sampling.
        pair: the tags around thoughts; ("", "") without.
        opened: what a prompt begins of the reply, "" for most.
        style: "none"; "reply": the model opens its thought; "opens", "closes": the prompt does; "channel": a thought is
            a message of its own.
        header: the assistant's header where the template leaves it out of the prompt.
    """

    render: Renderer
    system: str
    ends: tuple[int, ...]
    closing: str
    is_next_header: bool
    never_stops: frozenset[int]
    pair: tuple[str, str]
    opened: str
    style: str
    header: str


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, **fields: str) -> Message:
    return {"role": "assistant", "content": text, **fields}


def examine(tokenizer: Any, options: Mapping[str, Any]) -> Truth:
    """Return the truth of a template. Raises `Unrenderable` if it cannot hold a conversation."""
    try:
        return _examine(Renderer(tokenizer, options))
    except Unrenderable as error:
        try:
            return _examine(Renderer(tokenizer, options, has_parts=True))
        except Unrenderable:
            raise error from None


def _examine(render: Renderer) -> Truth:
    prompt = render([user(FIRST)])
    history = render([user(FIRST), assistant(REPLY), user(NEXT)])
    for text, of in ((FIRST, prompt), (NEXT, history), (REPLY, history)):
        if text not in of:
            raise Unrenderable("a message is not shown")
    pair, opened, style = _thoughts(render, prompt.rpartition(FIRST)[2])
    openers = _openers(render, prompt)
    closing = (
        "<|return|>"
        if HARMONY in str(render.tokenizer.chat_template)
        else _closing(render, openers, _between(history, REPLY, NEXT))
    )
    added = render.tokenizer.added_tokens_decoder
    ends = tuple(token for token in render.encode(closing) if token in added)
    later = _between(history, REPLY, NEXT).partition(closing)[2] if ends else ""
    return Truth(
        render=render,
        system="own" if _shows_system(render) else "folded",
        ends=ends,
        closing=closing,
        is_next_header=bool(set(ends) & openers) and not set(added).intersection(render.encode(later)),
        never_stops=frozenset(
            token for token in render.encode(pair[1]) if style == "channel" and token in added and token not in ends
        ),
        pair=pair,
        opened=opened,
        style=style,
        header=_missing_header(render, prompt, openers),
    )


def _between(text: str, left: str, right: str) -> str:
    return text.rpartition(left)[2].partition(right)[0]


def _shows_system(render: Renderer) -> bool:
    try:
        return SYSTEM in render([{"role": "system", "content": SYSTEM}, user(FIRST)])
    except Unrenderable:
        return False


def _openers(render: Renderer, prompt: str) -> set[int]:
    """Return the control tokens in the header of a user's message."""
    added = render.tokenizer.added_tokens_decoder
    before, after = (render.encode(text) for text in prompt.split(FIRST, 1))
    end = next((token for token in after if token in added), None)
    start = len(before) - before[::-1].index(end) if end in before else 0
    return {token for token in before[start:] if token in added}


def _closing(render: Renderer, openers: set[int], after: str) -> str:
    """Return the text that ends a reply, with the control tokens in it; only white space may stand around them.

    Args:
        after: what follows a reply in history. What follows the last reply of all, if it is the same, is its end.
    """
    told = render([user(FIRST), assistant(REPLY)], generation=False).rpartition(REPLY)[2]
    shared = os.path.commonprefix([told, after])  # noqa: RUF071 - of texts, not of paths
    found, added = "", render.tokenizer.added_tokens_decoder
    ids = render.encode(shared)
    is_last_wrapped = shared == told and len(ids) > 1 and ids[0] in added and ids[-1] in added
    if is_last_wrapped and ids[0] not in openers:
        return told
    for at, token in enumerate(ids):
        if token in openers or (token not in added and render.decode([token]).strip()):
            break
        if token in added:
            found = render.decode(ids[: at + 1])
    if found:
        return found
    first = render.encode(after)
    at = next((index for index, token in enumerate(first) if token in added), -1)
    return "" if render.decode(first[: max(at, 0)]).strip() else render.decode(first[: at + 1])


def _thoughts(render: Renderer, tail: str) -> tuple[tuple[str, str], str, str]:
    """Return the tags, what the prompt opened, and the style, from the text after the last message of the user."""
    template = str(render.tokenizer.chat_template)
    if HARMONY in template:
        return ("<|channel|>analysis<|message|>", f"<|end|><|start|>assistant{HARMONY}"), "", "channel"
    for opening, close in PAIRS:
        if close in tail:
            return (opening, close), "", "closes"
        if opening in tail:
            return (opening, close), opening + tail.partition(opening)[2], "opens"
    for opening, close in PAIRS:
        if opening.partition("thought\n")[0] in template and close in template:
            return (opening, close), "", "reply"
    return _channels(render)


def _channels(render: Renderer) -> tuple[tuple[str, str], str, str]:
    """Return the text around a thought that the template writes as a message of its own."""
    message = assistant(REPLY, reasoning_content=NEXT, thinking=NEXT, reasoning=NEXT)
    prompt = render([user(FIRST)])
    told = render([user(FIRST), message], generation=False)
    if not told.startswith(prompt) or NEXT not in told:
        return ("", ""), "", "none"
    opening, _, rest = told[len(prompt) :].partition(NEXT)
    return (opening, rest.partition(REPLY)[0]), "", "channel"


def _missing_header(render: Renderer, prompt: str, openers: set[int]) -> str:
    """Return the header before a reply in history that the prompt lacks although it was asked for."""
    tail = render.encode(prompt.rpartition(FIRST)[2])
    if openers & set(tail) or prompt != render([user(FIRST)], generation=False):
        return ""
    told = render([user(FIRST), assistant(REPLY)], generation=False)
    header = told[len(prompt) :].partition(REPLY)[0] if told.startswith(prompt) else ""
    return header if header.strip() else ""


def own_turns(truth: Truth, thought: str, answer: str) -> list[str]:
    """Return the template's own texts of an assistant's turn, after the prompt and up to the answer.

    They are the text of the last turn and, where the prompt and history agree, that of an earlier turn.
    """
    prompt = truth.render([user(FIRST)]) + truth.header
    texts = []
    for message in forms(truth, Reply("", thought, answer)).values():
        for later in ([], [user(NEXT)]):
            try:
                whole = truth.render([user(FIRST), message, *later], generation=bool(later))
            except Unrenderable:
                continue
            head, mark, _ = whole[len(prompt) :].partition(answer)
            is_shown = whole.startswith(prompt) and mark and (not thought or thought in head)
            is_whole = truth.pair[1].strip() in head if truth.opened else head.strip() == truth.pair[1].strip()
            if is_shown and (is_whole or (is_balanced(truth, head) and not truth.opened)):
                texts.append(head + answer)
    return list(dict.fromkeys(texts))


def model_reply(truth: Truth, thought: str, answer: str) -> Reply:
    """Return a reply as a model of the family writes it: as the template does, or else in the usual form."""
    opening, close = truth.pair
    if truth.style in ("none", "closes"):
        thought = ""
    for text in own_turns(truth, thought, answer):
        if bool(close and close in text) == bool(thought):
            return Reply(text, thought, answer)
    if truth.style == "channel":
        return Reply(f"{opening}{thought}{close}{answer}" if thought else answer, thought, answer)
    if truth.style == "opens":
        return Reply(f"{thought}\n{close}\n\n{answer}", thought, answer)
    begun = f"{opening.rstrip()}\n{thought}\n{close}\n\n" if thought else ""
    bare = next((text for text in own_turns(truth, "", answer) if close not in text), answer) if thought else answer
    return Reply(begun + bare, thought, answer)


def is_balanced(truth: Truth, text: str) -> bool:
    """Return whether every thought in a conversation is begun and ended once, the one begun by the prompt apart."""
    opening, close = (tag.strip() for tag in truth.pair)
    if not opening:
        return True
    doubled = re.search(re.escape(close) + r"\s*" + re.escape(opening), text)
    return not doubled and text.count(opening) - bool(truth.opened) == text.count(close)


def forms(truth: Truth, reply: Reply) -> dict[str, Message]:
    """Return the ways in which a reply may be put into history: its thought in a field, in its words, or not at all."""
    opening, close = truth.pair
    found = {}
    if reply.thought:
        found["field"] = assistant(
            reply.answer, reasoning_content=reply.thought, thinking=reply.thought, reasoning=reply.thought
        )
    if reply.thought and opening and truth.style != "channel":
        found["usual"] = assistant(f"{opening.rstrip()}\n{reply.thought}\n{close}\n\n{reply.answer}")
    if reply.text and truth.style not in ("channel", "none"):
        found["written"] = assistant((truth.opened + reply.text).strip())
    found["answer"] = assistant(reply.answer)
    return found
