"""Tells a model's thoughts from its answer, in every notation that chat models think in.

Each family of models has its own tags. Some write a reply as several messages instead, with a channel (gpt-oss, in
OpenAI's harmony format: `final` is the answer) or a recipient (`to=user` is the answer).
Source: the chat templates that the models are published with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# Opening and closing tag of a thought; a template opens a thought with the first of those that it mentions.
PAIRS = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, GLM, MiniMax, Nemotron, OLMo, SmolLM3, Granite, Hunyuan, Kimi K2
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # Exaone Deep
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<mm:think>", "</mm:think>"),  # MiniMax M3
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<|think|>", "<|/think|>"),  # Solar Open, whose thought ends with its message: read as one that is never closed
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
)
# What some models put around the answer after a thought. <answer> is not among them: environments take it as a command.
_WRAPPERS = (
    ("<response>", "</response>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
)
ANSWER_ENDS = frozenset(closing for _, closing in _WRAPPERS) | {"<|end|>"}
_CLOSING = dict(PAIRS)
_TAG = re.compile("|".join(re.escape(tag) for pair in PAIRS for tag in pair))
_CHANNEL = re.compile(
    r"(?:<\|channel\|>|\bto=)\s*(\w*)[^<]*<\|message\|>"
    r"(.*?)(?:<\|(?:end|return|call|eom|eot)\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.DOTALL,
)
_ANSWERS = ("final", "user")  # the channel or recipient of an answer
_CHANNEL_MARKS = frozenset(("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|eom|>", "<|constrain|>"))
_OPENED = re.compile(rf"(?:{_TAG.pattern}|<\|channel\|>\s*\w+\s*<\|message\|>)\s*\Z")

ACTION_TAGS = ("<action>", "</action>")  # around a command, in the grammar `tags` of agent cards
_TAG_MARKS = frozenset(tag for pair in (*PAIRS, *_WRAPPERS, ACTION_TAGS) for tag in pair)


class Thought(StrEnum):
    """Which thought a reply holds."""

    NONE = "none"
    EMPTY = "empty"
    CLOSED = "closed"
    OPEN = "open"  # it was begun and never closed


@dataclass(frozen=True, slots=True)
class Reading:
    """A reply as a thought and an answer; all texts between thoughts belong to the answer."""

    thought: str
    answer: str
    kind: Thought


def has_channels(text: str) -> bool:
    """Return True if a template or a reply is written in channels, or in messages to recipients."""
    return "<|message|>" in text and ("<|channel|>" in text or "to=" in text)


def has_mark(text: str, source: str) -> bool:
    """Return True if a text holds what marks a thought, a channel, an answer or an action."""
    return any(mark in text for mark in _marks(source))


def mark_tokens(texts: Iterable[str], source: str) -> frozenset[str]:
    """Return those tokens of a tokenizer that a mark consists of, all or in part: `<|channel>` of Gemma's, say."""
    marks = _marks(source)
    return frozenset(text for text in texts if any(text in mark for mark in marks))


def _marks(source: str) -> frozenset[str]:
    return _TAG_MARKS | _CHANNEL_MARKS if has_channels(source) else _TAG_MARKS


def read_reply(text: str) -> Reading:
    """Return thought and answer of a reply. Never raises.

    A closing tag without its opening one ends a thought that began with the reply, as under templates whose prompt
    opens it. A thought that is never closed lasts to the end.
    """
    if has_channels(text):
        return _read_channels(text)
    thoughts: list[str] = []
    answers: list[str] = []
    position, is_open = 0, False
    while tag := _TAG.search(text, position):
        before = text[position : tag.start()]
        closing = _CLOSING.get(tag.group())
        if closing is None:
            thoughts, answers = [*thoughts, "".join(answers) + before], []
            position = tag.end()
            continue
        answers.append(before)
        end = text.find(closing, tag.end())
        is_open = end < 0
        inside = text[tag.end() :] if is_open else text[tag.end() : end]
        thoughts.append(inside.strip().removeprefix(tag.group()))  # a model may open it again after the prompt did
        position = len(text) if is_open else end + len(closing)
    answers.append(text[position:])
    thought = "\n".join(each.strip() for each in thoughts).strip()
    if is_open:
        kind = Thought.OPEN
    else:
        kind = Thought.CLOSED if thought else Thought.EMPTY if thoughts else Thought.NONE
    return Reading(thought, _unwrapped("".join(answers)), kind)


def opened_thought(prompt_end: str) -> str:
    """Return the end of a prompt from the thought on that it opens, or opens and closes; empty if it does neither."""
    found = _OPENED.search(prompt_end)
    if found is None:
        return ""
    start = found.start()
    for opening, closing in PAIRS:
        if found.group().strip() == closing:
            before = prompt_end.rfind(opening, 0, start)
            return prompt_end[start if before < 0 else before :]
    return prompt_end[start:]


def _read_channels(text: str) -> Reading:
    """Read a reply in channels: one of them is the answer, everything else is thought, even if there is none."""
    thoughts: list[str] = []
    answer: str | None = None
    for name, content in _CHANNEL.findall(text):
        if name in _ANSWERS:
            answer = content
        else:
            thoughts.append(content.strip())
    thought = "\n".join(thoughts).strip()
    if answer is None:
        return Reading(thought, "", Thought.OPEN)
    return Reading(thought, answer, Thought.CLOSED if thought else Thought.EMPTY)


def _unwrapped(answer: str) -> str:
    """Return an answer without the tags around all of it, of which the prompt or a cut may have taken one."""
    bare = answer.strip()
    for opening, closing in _WRAPPERS:
        if bare.startswith(opening) or bare.endswith(closing):
            return bare.removeprefix(opening).removesuffix(closing)
    return answer
