"""Names from outside in a leaderboard are names."""

from __future__ import annotations

import re

import pytest

from agentgym_rft.report.leaderboard_pages import Table, html, markdown
from agentgym_rft.report.markdown import code, markdown_note, markdown_text

TAG = "<img src=http://elsewhere.example/x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TAG, "&lt;img src=http://elsewhere.example/x onerror=alert(1)&gt;"),
        ("![x](http://elsewhere.example)", r"!\[x\](http://elsewhere.example)"),
        ("a|b\\|c", r"a\|b\\\|c"),
        ("a\n\n# b", "a # b"),
        ("`x`", r"\`x\`"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("\x1b[2J", r"\\x1b\[2J"),
        ("my_policy-2.0 (seed)", "my_policy-2.0 (seed)"),
    ],
)
def test_a_text_is_shown_as_it_is(text, shown):
    assert markdown_text(text) == shown


def test_a_note_keeps_its_code_and_nothing_in_a_value_ends_it():
    note = f"4 tasks of {code(f'a`{TAG}`')}, options {TAG}."
    assert markdown_note(note) == (
        f"4 tasks of `a'{TAG}'`, options &lt;img src=http://elsewhere.example/x onerror=alert(1)&gt;."
    )


def test_a_table_of_hostile_names_has_its_cells_and_no_tag():
    table = Table(TAG, f"of {code(TAG)}", ("policy", TAG), (("a|b", TAG), ("\\|", "x\ny")))
    text = markdown([table])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows] == [3, 3, 3, 3]
    assert "<img" not in text.replace(f"`{TAG}`", "")
    assert "<img" not in html([table])
