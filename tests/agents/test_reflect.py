from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.reflect import (
    FIELDS,
    Outcome,
    Refusal,
    Report,
    format_report,
    guidance_text,
    leaks,
    parse_report,
    reflection_messages,
    wants_retry,
)
from agentgym_rft.core import StopReason, Trajectory, Turn

GOOD = {
    "trajectory_summary": "Looked for the mug in the wrong place.",
    "root_cause_analysis": "The desk was never searched.",
    "trajectory_outcome": "failure",
    "improvement_suggestion": "Search what is near first.",
    "retry_from_step": 3,
}


def text(**changes: object) -> str:
    return json.dumps(GOOD | changes)


def test_a_report_is_read_from_the_first_brace_to_the_last():
    report = parse_report(f"Here it is: {text()} I hope it helps.", 5)
    assert report == Report(
        GOOD["trajectory_summary"], GOOD["root_cause_analysis"], Outcome.FAILURE, GOOD["improvement_suggestion"], 3
    )
    assert wants_retry(report)


@pytest.mark.parametrize("pivot", ["3", " 3", 3.0])
def test_a_pivot_in_another_notation_is_an_int_before_it_is_used(pivot):
    report = parse_report(text(retry_from_step=pivot), 5)
    assert isinstance(report, Report)
    assert report.retry_from_step == 3
    assert type(report.retry_from_step) is int


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", Refusal.NO_JSON),
        ("no report", Refusal.NO_JSON),
        ("} no report", Refusal.NO_JSON),
        (text()[:-1], Refusal.CUT_OFF),
        ("} {", Refusal.CUT_OFF),
        ("{trajectory_summary}", Refusal.BAD_JSON),
        (text() + text(), Refusal.BAD_JSON),
        ("{" * 100_000 + "}", Refusal.BAD_JSON),
        ('{"a": ' * 100_000 + "1" + "}" * 100_000, Refusal.BAD_JSON),
        ("{}", Refusal.MISSING_FIELD),
        *((json.dumps({k: v for k, v in GOOD.items() if k != field}), Refusal.MISSING_FIELD) for field in FIELDS),
        (text(trajectory_summary=None), Refusal.WRONG_TYPE),
        (text(root_cause_analysis=["x"]), Refusal.WRONG_TYPE),
        (text(improvement_suggestion=3), Refusal.WRONG_TYPE),
        (text(trajectory_outcome="partial"), Refusal.UNKNOWN_OUTCOME),
        (text(trajectory_outcome=["failure"]), Refusal.UNKNOWN_OUTCOME),
        (text(improvement_suggestion=None), Refusal.NO_SUGGESTION),
        (text(improvement_suggestion=" "), Refusal.NO_SUGGESTION),
        (text(retry_from_step=None), Refusal.NO_PIVOT),
        (text(retry_from_step=True), Refusal.WRONG_TYPE),
        (text(retry_from_step=2.5), Refusal.WRONG_TYPE),
        (text(retry_from_step="step 3"), Refusal.WRONG_TYPE),
        (text(retry_from_step="1_0"), Refusal.WRONG_TYPE),
        (text(retry_from_step=[3]), Refusal.WRONG_TYPE),
        (text().replace(": 3", ": 1e999"), Refusal.WRONG_TYPE),
        (text(retry_from_step=5), Refusal.PIVOT_OUT_OF_RANGE),
        (text(retry_from_step="5"), Refusal.PIVOT_OUT_OF_RANGE),
        (text(retry_from_step=-1), Refusal.PIVOT_OUT_OF_RANGE),
        (text(trajectory_outcome="success"), Refusal.PIVOT_ON_SUCCESS),
    ],
)
def test_what_is_no_report_is_refused_with_a_reason(reply, reason):
    assert parse_report(reply, 5) is reason


def test_a_report_of_success_needs_no_suggestion_and_asks_for_no_retry():
    report = parse_report(text(trajectory_outcome="success", improvement_suggestion=None, retry_from_step=None), 5)
    assert isinstance(report, Report)
    assert not wants_retry(report)


def test_an_inefficient_success_asks_for_a_retry():
    report = parse_report(text(trajectory_outcome="success_but_inefficient"), 5)
    assert isinstance(report, Report)
    assert wants_retry(report)


@given(st.text())
def test_any_text_is_a_report_or_a_refusal(reply):
    assert isinstance(parse_report(reply, 3), Report | Refusal)
    assert isinstance(parse_report("{" + reply + "}", 3), Report | Refusal)


@given(
    st.builds(
        Report,
        st.text(),
        st.none() | st.text(),
        st.sampled_from([Outcome.FAILURE, Outcome.SUCCESS_BUT_INEFFICIENT]),
        st.text(min_size=1).filter(str.strip),
        st.integers(0, 9),
    )
)
@example(Report("", None, Outcome.FAILURE, "Say it after <think> and before </think>.", 0))
def test_a_formatted_report_is_read_back(report):
    assert parse_report(format_report(report), 10) == report


def test_a_report_is_written_on_one_line_with_its_keys_in_order():
    report = parse_report(text(trajectory_summary="a\nb é"), 5)
    assert isinstance(report, Report)
    assert format_report(report) == (
        '{"trajectory_summary": "a\\nb é", "root_cause_analysis": "The desk was never searched.", '
        '"trajectory_outcome": "failure", "improvement_suggestion": "Search what is near first.", "retry_from_step": 3}'
    )
    assert guidance_text(report).count(format_report(report)) == 1


def turn(observation: str, reply: str, invalid: str = "") -> Turn:
    info = {"observation": observation, "text": reply, "action": reply, "invalid_action": invalid}
    return Turn((1,), (2,), (-1.0,), info=info)


def test_the_transcript_numbers_turns_from_zero_and_ends_with_the_result():
    card = parse_card({"name": "c", "system": "Reply.", "reflect": {"system": "Reflect."}})
    trajectory = Trajectory(
        "t",
        "g",
        "e",
        (turn("A desk.\nGoal: find it.", "look"), turn("Nothing.\nGoal: find it.", "jump", "refused")),
        StopReason.STEP_LIMIT,
        rewards={"env": 0.0, "invalid_action": -0.5},
        info={"last_observation": "Still nothing.\nGoal: find it.", "max_steps": 2},
    )
    assert reflection_messages(card, trajectory) == [
        {"role": "system", "content": "Reflect."},
        {
            "role": "user",
            "content": "Instructions: Reply.\n[0] A desk.\nGoal: find it.\n> look\n[1] Nothing.\n> jump\n"
            "Still nothing.\nResult: step_limit, reward -0.5, 2 of 2 steps, 1 invalid actions.",
        },
    ]


def test_a_card_without_prompts_gives_the_transcript_alone():
    card = parse_card({"name": "c", "reflect": {"system": ""}})
    trajectory = Trajectory("t", "g", "e", (turn("A desk.", "look"),), StopReason.FAILURE, rewards={"env": 0.0})
    (message,) = reflection_messages(card, trajectory)
    assert message["content"].splitlines()[0] == "[0] A desk."


@pytest.mark.parametrize(
    "reply",
    ["As the reflection says, go left.", "In my earlier attempt I", "this note tells me", "The lesson: look first"],
)
def test_a_reply_that_speaks_of_its_guidance_leaks(reply):
    assert leaks(reply)


@pytest.mark.parametrize("reply", ["take notebook 1 from desk 1", "go to desk 1", "<think>I note the desk.</think>"])
def test_a_plain_reply_does_not_leak(reply):
    assert not leaks(reply)
