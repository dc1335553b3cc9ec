"""Reads the content of a chat message in OpenAI's form: text, a list of parts, or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.agents.template_shape import THOUGHT_FIELDS

_SHOWN = 80  # characters of what cannot be read


def text_parts(content: Sequence[Any]) -> list[str]:
    """Return the texts of the parts that are text; images, refusals and thoughts are other parts."""
    parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return [part for part in parts if isinstance(part, str)]


def reply_message(reply: Any) -> Mapping[str, Any]:
    """Return the model's message in the reply of an endpoint. Raises TypeError if there is none."""
    try:
        message = reply["choices"][0]["message"]
    except (LookupError, TypeError):
        message = None
    if not isinstance(message, Mapping):
        raise TypeError(f"expected JSON with choices[0].message, got {_beginning(reply)}")
    return message


def reply_text(message: Mapping[str, Any]) -> str:
    """Return the text of a model's message: that of its text parts joined, and "" where it has no content.

    A model that only thinks, calls a tool or refuses has said nothing: its reply is empty, and no failure of the
    endpoint.

    Raises:
        TypeError: its content is something else.
    """
    content = message.get("content")
    if isinstance(content, list):
        return "".join(text_parts(content))
    if not isinstance(content, str | None):
        raise TypeError(f"expected a text as content of its message, got {_beginning(content)}")
    return content or ""


def _beginning(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def reply_thought(message: Mapping[str, Any]) -> str:
    """Return the thought that a server tells apart from what the model said: that of the first field that has one."""
    return next((thought for name in THOUGHT_FIELDS if isinstance(thought := message.get(name), str) and thought), "")
