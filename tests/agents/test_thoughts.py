from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentgym_rft.agents.card import ActionCard
from agentgym_rft.agents.parse import InvalidAction, parse_reply
from agentgym_rft.agents.thoughts import PAIRS, Thought, opened_thought, read_reply

PLAIN = ActionCard(grammar="plain")
TAGS = ActionCard(grammar="tags", think=True)


def channel(name: str, text: str, end: str) -> str:
    return f"<|channel|>{name}<|message|>{text}{end}"


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_a_thought_in_the_tags_of_any_family_is_told_from_the_answer(opening, closing):
    reading = read_reply(f"{opening}\nI should look.\n{closing}\n\nlook")
    assert (reading.thought, reading.answer.strip(), reading.kind) == ("I should look.", "look", Thought.CLOSED)


@pytest.mark.parametrize(
    ("text", "thought", "answer", "kind"),
    [
        ("look", "", "look", Thought.NONE),
        ("<think>\n\n</think>\n\nlook", "", "\n\nlook", Thought.EMPTY),
        ("</think>look", "", "look", Thought.EMPTY),
        ("I should look.\n</think>\n\nlook", "I should look.", "\n\nlook", Thought.CLOSED),
        ("<think>a</think>go <think>b</think>north", "a\nb", "go north", Thought.CLOSED),
        ("<think>\n<think>\na</think>look", "a", "look", Thought.CLOSED),
        ("<think>I wonder", "I wonder", "", Thought.OPEN),
        ("go north<think>I wonder", "I wonder", "go north", Thought.OPEN),
        ("<|START_RESPONSE|>look<|END_RESPONSE|>", "", "look", Thought.NONE),
        ("look<|END_RESPONSE|>", "", "look", Thought.NONE),
    ],
)
def test_thoughts_may_be_empty_unopened_repeated_or_unfinished(text, thought, answer, kind):
    reading = read_reply(text)
    assert (reading.thought, reading.answer, reading.kind) == (thought, answer, kind)


def test_the_final_channel_is_the_answer_and_all_others_are_thoughts():
    reply = (
        channel("analysis", "A <action>x</action>.", "<|end|>") + "<|start|>assistant" + channel("final", "look", "")
    )
    assert read_reply(reply).answer == "look"
    assert read_reply(reply).thought == "A <action>x</action>."
    assert read_reply(channel("final", "look", "<|return|>")).kind is Thought.EMPTY
    assert read_reply(channel("analysis", "Let me", "")).kind is Thought.OPEN
    assert read_reply(" to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>look<|eot|>").answer == "look"


def test_an_action_within_a_thought_does_not_count():
    reply = "<think>Maybe <action>wait</action>?</think><action>look</action>"
    assert parse_reply(reply, TAGS).action == "look"
    assert parse_reply("<think><action>look</action></think>", TAGS).error is InvalidAction.NO_ACTION


@pytest.mark.parametrize("card", [PLAIN, TAGS])
def test_a_thought_that_never_ends_says_so(card):
    assert parse_reply("<think>Maybe <action>look</action>", card).error is InvalidAction.UNFINISHED_THOUGHT


def test_a_plain_reply_is_the_command_after_the_thought():
    assert parse_reply("<think>\nwhy\n</think>\n\ngo north", PLAIN).action == "go north"


@pytest.mark.parametrize(
    ("tail", "opened"),
    [
        ("<|im_end|>\n<|im_start|>assistant\n", ""),
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        ("<Assistant></think>", "</think>"),
        ("<|turn>model\n<|channel>thought\n", "<|channel>thought\n"),
        ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
        (" Think in <think> tags, please. ASSISTANT:", ""),
    ],
)
def test_what_a_prompt_opens_is_found_at_its_end(tail, opened):
    assert opened_thought(tail) == opened


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(["a", " ", "\n", "<think>", "</think>", "<|channel|>", "<|message|>", "final"])))
def test_reading_never_raises_and_leaves_no_tag_in_an_answer(pieces):
    text = "".join(pieces)
    reading = read_reply(text)
    if "<|message|>" not in text:
        assert "think>" not in reading.answer
