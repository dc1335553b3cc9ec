from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agentgym_rft.agents.reflect import Outcome, Report
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.envs.base import Lesson, TextEnv
from agentgym_rft.errors import EnvError
from agentgym_rft.rollouts.reflection.hindsight import lesson_report, pivot_of, read_steps, remaining_after, with_goal


class Corridor(TextEnv):
    """Walk `right` to square 3 from square 0; `left` leads away, anything else nowhere."""

    def __init__(self, *, is_blind: bool = False) -> None:
        self._is_blind = is_blind
        self.square = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self.square = 0
        return "square 0", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.square += {"right": 1, "left": -1}.get(action, 0)
        return f"square {self.square}", 0.0, self.square == 3, False, {}

    def remaining(self) -> int | None:
        return None if self._is_blind else abs(3 - self.square)

    def lesson(self, observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
        return Lesson(f"{observation} to {steps[-1][1]}", f"turn {pivot}", "go right")


def walk(*actions: str, won: bool = False) -> Trajectory:
    turns = tuple(Turn((), (), (), info={"action": action}) for action in actions)
    return Trajectory("t", "g", "e", turns, StopReason.SUCCESS if won else StopReason.STEP_LIMIT)


def test_the_pivot_is_the_first_turn_after_which_more_is_left():
    assert pivot_of([5, 5, 4, 5, 5, 6]) == 2
    assert pivot_of([5, 6]) == 0
    assert pivot_of([5, 5, 4]) == 0  # none: a matter of strategy
    assert pivot_of([5]) == 0


def test_an_episode_is_replayed_and_a_reply_without_an_action_changes_nothing():
    env = Corridor()
    env.square = 2
    assert remaining_after(env, walk("right", "", "left", "jump")) == [3, 2, 2, 3, 3]
    assert pivot_of(remaining_after(env, walk("right", "", "left", "jump"))) == 2


def test_an_environment_that_cannot_tell_gives_no_pivot_and_no_report():
    env = Corridor(is_blind=True)
    assert remaining_after(env, walk("right")) is None
    assert lesson_report(env, walk("right")) is None


def test_a_failure_is_reported_with_the_pivot_and_the_words_of_the_environment():
    expected = Report("square 0 to square 0", "turn 1", Outcome.FAILURE, "go right", 1)
    assert lesson_report(Corridor(), walk("right", "left")) == expected


def test_a_failure_without_a_wrong_turn_is_retried_from_the_start():
    report = lesson_report(Corridor(), walk("right", "look"))
    assert report is not None
    assert (report.root_cause_analysis, report.retry_from_step) == ("turn None", 0)


def test_a_report_can_be_asked_for_a_retry_from_the_start():
    report = lesson_report(Corridor(), walk("right", "left"), at_start=True)
    assert report is not None
    assert (report.root_cause_analysis, report.retry_from_step) == ("turn None", 0)


@pytest.mark.parametrize(("detours", "outcome"), [(0, "success"), (3, "success"), (4, "success_but_inefficient")])
def test_a_win_is_inefficient_if_it_took_eight_turns_more_than_needed_and_a_turn_led_away(detours, outcome):
    report = lesson_report(Corridor(), walk(*("right", "left") * detours, *("right",) * 3, won=True))
    assert report is not None
    assert report.trajectory_outcome == outcome
    assert report.retry_from_step == (1 if detours == 4 else None)


def test_a_slow_win_without_a_wrong_turn_is_a_success():
    report = lesson_report(Corridor(), walk(*("look",) * 20, *("right",) * 3, won=True))
    assert report is not None
    assert report.trajectory_outcome is Outcome.SUCCESS


def test_steps_are_what_the_environment_said_to_each_action():
    first, steps = read_steps(Corridor(), walk("right", "", "left"))
    assert (first, steps) == ("square 0", [("right", "square 1"), ("", ""), ("left", "square 0")])


def test_environments_have_no_lessons_and_no_distance_unless_they_say_so():
    assert TextEnv().remaining() is None
    with pytest.raises(EnvError, match="TextEnv has no lessons"):
        TextEnv().lesson("", [], None)
    with pytest.raises(EnvError, match="goes on after somebody else"):
        TextEnv().resumed_expert("", [], "")


def test_the_own_engine_tells_how_many_commands_are_left_without_changing_the_episode():
    env = ALFWorldEnv()
    env.reset(options={"task_id": env.task_ids("train")[0]})
    before = env.snapshot()
    left = env.remaining()
    assert env.snapshot() == before
    assert left is not None
    assert left > 0
    assert ALFWorldEnv().remaining() is None  # nothing is being played


def test_a_goal_that_the_texts_do_not_say_is_added_to_the_first() -> None:
    assert with_goal("Search.", {"goal": "buy a lamp"}) == "Search.\nGoal: buy a lamp"
    assert with_goal("Your task: buy a lamp.", {"goal": "buy a lamp"}) == "Your task: buy a lamp."
    assert with_goal("Search.", {}) == "Search."
