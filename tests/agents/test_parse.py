from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym_rft.agents.card import ActionCard
from agentgym_rft.agents.parse import InvalidAction, format_reply, parse_reply

PLAIN = ActionCard(grammar="plain", max_chars=30)
TAGS = ActionCard(grammar="tags", think=True, max_chars=30)


@given(st.binary(max_size=300), st.sampled_from([PLAIN, TAGS]))
def test_any_bytes_give_an_action_or_a_typed_error(raw, card):
    parsed = parse_reply(raw.decode("utf-8", errors="replace"), card)
    assert bool(parsed.action) != (parsed.error is not None)
    assert len(parsed.action) <= card.max_chars
    assert "\n" not in parsed.action


@given(st.text(max_size=200))
def test_any_text_around_tags_never_raises(text):
    parsed = parse_reply(f"<think>{text}<action>{text}</action>", TAGS)
    assert parsed.error is None or isinstance(parsed.error, InvalidAction)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", InvalidAction.NO_ACTION),
        ("<think>a</think>go to desk 1", InvalidAction.NO_ACTION),
        ("<action>look</action>", InvalidAction.NO_THINK),
        ("<think>a</think><action> </action>", InvalidAction.EMPTY),
        ("<think>a</think><action>look</action><action>look</action>", InvalidAction.SEVERAL_ACTIONS),
        ("<think>a</think><action>" + "x" * 31 + "</action>", InvalidAction.TOO_LONG),
    ],
)
def test_each_kind_of_bad_reply_has_its_error(text, error):
    assert parse_reply(text, TAGS).error is error


def test_white_space_in_an_action_is_folded():
    assert parse_reply(" go  to\ndesk 1 ", PLAIN).action == "go to desk 1"


@given(st.from_regex(r"[a-z]{1,8}( [a-z0-9]{1,5}){0,3}", fullmatch=True), st.sampled_from([PLAIN, TAGS]))
def test_parsing_inverts_formatting(action, card):
    parsed = parse_reply(format_reply(action, "why", card), card)
    assert parsed.action == action
    assert parsed.error is None
