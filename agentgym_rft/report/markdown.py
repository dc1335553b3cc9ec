"""Texts from outside in Markdown, where nothing of them is a tag, a link, a picture or the end of a cell."""

from __future__ import annotations

import re

from agentgym_rft.report.terminal import printable

_MARKUP = re.compile(r"[\\`\[\]|<>&]")
_CODE_OR_MARKUP = re.compile(rf"`[^`]*`|{_MARKUP.pattern}")


def markdown_text(text: str) -> str:
    """Return a text as it is shown, on one line."""
    return _MARKUP.sub(_escaped, _one_line(text))


def markdown_note(note: str) -> str:
    """Return the same of a sentence whose values in `code` are marked by `code`."""
    return _CODE_OR_MARKUP.sub(_escaped, _one_line(note))


def code(value: object) -> str:
    """Return a value to be shown as code."""
    return f"`{plain(value)}`"


def plain(value: object) -> str:
    """Return a value that ends no code beside it."""
    return str(value).replace("`", "'")


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _escaped(found: re.Match[str]) -> str:
    text = found[0]
    if len(text) > 1:  # code
        return text
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(text, f"\\{text}")
