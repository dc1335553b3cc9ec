"""Reflections: the prompt that asks about an episode, the report that answers it, and the note that guides the retry.

Pure text, no model: reports are parsed into a `Report` or a typed `Refusal`, never an exception.
Source: R3L, arXiv 2601.03715, section 3 and appendix.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.context import without_goal
from agentgym_rft.agents.thoughts import read_reply
from agentgym_rft.core import Trajectory
from agentgym_rft.json_text import parse_json

FIELDS = (
    "trajectory_summary",
    "root_cause_analysis",
    "trajectory_outcome",
    "improvement_suggestion",
    "retry_from_step",
)
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_LEAK = re.compile(
    r"\b(reflections?|(?:earlier|previous|prior|last|first|failed) (?:attempt|try|trial|trajectory)"
    r"|(?:the|this|that) (?:note|lesson))\b",
    re.IGNORECASE,
)


class Outcome(StrEnum):
    """The ends of an episode, in the words of a report."""

    SUCCESS = "success"
    SUCCESS_BUT_INEFFICIENT = "success_but_inefficient"
    FAILURE = "failure"


class Refusal(StrEnum):
    """Why a reflection gave no usable report."""

    NO_JSON = "no_json"  # no brace at all
    CUT_OFF = "cut_off"  # an object that was begun and not ended
    BAD_JSON = "bad_json"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_OUTCOME = "unknown_outcome"
    NO_SUGGESTION = "no_suggestion"
    NO_PIVOT = "no_pivot"
    PIVOT_ON_SUCCESS = "pivot_on_success"
    PIVOT_OUT_OF_RANGE = "pivot_out_of_range"
    NO_ROOM = "no_room"  # the transcript and a report need more than the reflector's context
    REFLECTOR_ERROR = "reflector_error"  # the reflector failed
    CANNOT_TELL = "cannot_tell"  # the environment gives no distances, which hindsight needs


@dataclass(frozen=True, slots=True)
class Report:
    """A valid report. `retry_from_step` is a turn of the episode, from 0; None exactly if the outcome is success."""

    trajectory_summary: str
    root_cause_analysis: str | None
    trajectory_outcome: Outcome
    improvement_suggestion: str | None
    retry_from_step: int | None


def parse_report(text: str, num_turns: int) -> Report | Refusal:
    """Return the report in a reply about an episode of `num_turns` turns, or why there is none. Never raises.

    The text from the first `{` to the last `}` is read. A pivot written as a string ("7") or as a whole float counts as
    its integer; a boolean does not. Fields that are not known are ignored, and so are thoughts before the report.
    """
    if _parsed(text) is None:  # otherwise it is all report, which may speak of the marks of thoughts
        text = read_reply(text).answer
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        return Refusal.NO_JSON
    if end < start:
        return Refusal.CUT_OFF
    data = _parsed(text[start : end + 1])
    if data is None:
        return Refusal.BAD_JSON
    if any(field not in data for field in FIELDS):
        return Refusal.MISSING_FIELD
    return _checked(data, num_turns)


def _parsed(text: str) -> dict[str, Any] | None:
    """Return the JSON object that the text is, None if it is something else."""
    try:
        value = parse_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _checked(data: dict[str, Any], num_turns: int) -> Report | Refusal:
    summary, cause, outcome_name, suggestion, _ = (data[field] for field in FIELDS)
    if not (isinstance(summary, str) and _is_text_or_null(cause) and _is_text_or_null(suggestion)):
        return Refusal.WRONG_TYPE
    if outcome_name not in [o.value for o in Outcome]:
        return Refusal.UNKNOWN_OUTCOME
    outcome = Outcome(outcome_name)
    if outcome is not Outcome.SUCCESS and not (suggestion or "").strip():
        return Refusal.NO_SUGGESTION
    pivot = _pivot(data["retry_from_step"], outcome, num_turns)
    if isinstance(pivot, Refusal):
        return pivot
    return Report(summary, cause, outcome, suggestion, pivot)


def _is_text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _pivot(value: object, outcome: Outcome, num_turns: int) -> int | Refusal | None:
    if outcome is Outcome.SUCCESS:
        return None if value is None else Refusal.PIVOT_ON_SUCCESS
    if value is None:
        return Refusal.NO_PIVOT
    number = _integer(value)
    if number is None:
        return Refusal.WRONG_TYPE
    return number if 0 <= number < num_turns else Refusal.PIVOT_OUT_OF_RANGE


def _integer(value: object) -> int | None:
    if isinstance(value, str):
        return int(value.strip()) if _INTEGER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def format_report(report: Report) -> str:
    """Return the report as one line of JSON, with its keys in a fixed order. `parse_report` inverts it."""
    return json.dumps(asdict(report), ensure_ascii=False)


def wants_retry(report: Report) -> bool:
    """Return True if the report asks for a retry: it names a pivot, which only a report of success does not."""
    return report.retry_from_step is not None


def reflection_messages(card: AgentCard, trajectory: Trajectory) -> list[dict[str, str]]:
    """Return the conversation that asks for a report: the card's reflection prompt, then the transcript as one user
    message.

    Example of a transcript (the agent's own instructions first, if it has some; the goal is not repeated):

        Instructions: Reply with one command.
        [0] You are in the middle of a room. ...
        Goal: put a mug in the desk.
        > go to desk 1
        [1] On the desk 1, you see nothing.
        > look
        Nothing happens.
        Result: step_limit, reward 0, 2 of 2 steps, 1 invalid actions.

    With several agents each turn names its own, `[1] worker_2: On the desk 1, ...`, and shows what that agent read.
    """
    head = [{"role": "system", "content": card.reflect.system}] if card.reflect.system else []
    return [*head, {"role": "user", "content": _transcript(card, trajectory)}]


def _transcript(card: AgentCard, trajectory: Trajectory) -> str:
    lines = [f"Instructions: {card.system}"] if card.system else []
    met: set[str] = set()  # agents that have read their goal
    for index, turn in enumerate(trajectory.turns):
        agent = str(turn.info.get("agent", ""))
        observation = str(turn.info["observation"])
        shown = without_goal(observation) if agent in met else observation
        met.add(agent)
        lines += [f"[{index}] {agent}: {shown}" if agent else f"[{index}] {shown}", f"> {turn.info['text']}"]
    last = without_goal(str(trajectory.info.get("last_observation", "")))
    return "\n".join([*lines, *([last] if last else []), _result(trajectory)])


def _result(trajectory: Trajectory) -> str:
    """Return the last line. The step limit is in the trajectory's `info["max_steps"]`."""
    reward = 0.0 if trajectory.is_error else trajectory.episode_return
    num_invalid = sum(bool(turn.info.get("invalid_action")) for turn in trajectory.turns)
    limit = trajectory.info.get("max_steps", len(trajectory.turns))
    return (
        f"Result: {trajectory.stop_reason.value}, reward {reward:g}, {len(trajectory.turns)} of {limit} steps, "
        f"{num_invalid} invalid actions."
    )


def guidance_text(report: Report) -> str:
    """Return the note that guides a retry."""
    return (
        f"An earlier attempt had issues; here is the reflection: {format_report(report)} "
        "Use the lesson; do not mention this note."
    )


def leaks(text: str) -> bool:
    """Return True if a reply speaks of the note that guided it, which a policy without the note must not learn to
    do.
    """
    return _LEAK.search(text) is not None
