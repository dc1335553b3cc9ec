from __future__ import annotations

import re

import numpy as np
import pytest

from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.envs.alfworld.expert import SearchExpert
from agentgym_rft.envs.alfworld.lesson import lesson, quiz

ROOM = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
    "a bed 1, a cabinet 1, a desk 1, a drawer 1, a microwave 1, and a shelf 1.\n\nYour task is to: "
)
MUG = ROOM + "put a hot mug in desk."
PASSED_BY = [
    ("go to bed 1", "You arrive at bed 1. On the bed 1, you see a pillow 1."),
    ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a mug 2, and a vase 1."),
    ("take mug 1 from shelf 1", "Nothing happens."),
    ("go to desk 1", "You arrive at desk 1. On the desk 1, you see nothing."),
]


def test_a_lesson_names_the_object_that_was_passed_by_and_the_commands_that_count():
    said = lesson(MUG, PASSED_BY, 3)
    assert said.summary == "Goal: put a hot mug in desk. Seen: mug 2 on shelf 1 [2]."
    assert said.cause == "[3] go to desk 1 was wrong."
    assert said.suggestion == "take mug 2 from shelf 1, heat mug 2 with microwave 1, move mug 2 to desk 1."


def test_a_lesson_about_an_object_in_the_hand_goes_on_from_there():
    steps = [
        *PASSED_BY[:2],
        ("take mug 2 from shelf 1", "You pick up the mug 2 from the shelf 1."),
        ("go to microwave 1", "You arrive at microwave 1. The microwave 1 is closed."),
        ("heat mug 2 with microwave 1", "You heat the mug 2 using the microwave 1."),
        ("move mug 2 to microwave 1", "You move the mug 2 to the microwave 1."),
    ]
    assert lesson(MUG, steps, 5).suggestion == "move mug 2 to desk 1."
    assert lesson(MUG, steps, 2).suggestion.startswith("take mug 2 from shelf 1, heat mug 2")


def test_a_lesson_about_the_wrong_object_puts_it_back_where_the_retry_starts_with_it():
    steps = [*PASSED_BY[:2], ("take vase 1 from shelf 1", "You pick up the vase 1 from the shelf 1."), ("look", "")]
    assert lesson(MUG, steps, 2).suggestion.startswith("take mug 2 from shelf 1")
    assert lesson(MUG, steps, 3).suggestion.startswith("move vase 1 to shelf 1, take mug 2 from shelf 1")


def test_an_object_that_was_never_seen_is_to_be_looked_for_where_nobody_looked():
    said = lesson(MUG, PASSED_BY[:1], None)
    assert said.summary == "Goal: put a hot mug in desk. Seen: no mug."
    assert said.cause == "Nothing led to the goal."
    assert said.suggestion == "look in desk 1, microwave 1, shelf 1."  # cabinets and drawers come last


def test_an_object_seen_after_the_wrong_turn_helps_in_hindsight():
    said = lesson(MUG, PASSED_BY, 0)
    assert said.summary.endswith("Seen: mug 2 on shelf 1 [2].")
    assert said.suggestion.startswith("take mug 2 from shelf 1")


def test_what_the_last_action_showed_is_told_without_a_turn_to_cite():
    assert lesson(MUG, PASSED_BY[:2], None).summary.endswith("in desk. Seen: mug 2 on shelf 1.")


def test_two_objects_are_brought_one_after_the_other_and_a_missing_one_is_looked_for():
    game = ROOM + "put two pillow in drawer."
    steps = [("go to bed 1", "You arrive at bed 1. On the bed 1, you see a pillow 2, and a pillow 1.")]
    both = lesson(game, [*steps, ("look", "You are in the middle of a room.")], 1)
    assert both.suggestion == (
        "take pillow 2 from bed 1, move pillow 2 to drawer 1, take pillow 1 from bed 1, move pillow 1 to drawer 1."
    )
    one = lesson(game, [("go to bed 1", "On the bed 1, you see a pillow 1."), ("look", "")], None)
    assert one.summary.endswith("Seen: pillow 1 on bed 1 [1], no other pillow.")
    assert one.suggestion.endswith("move pillow 1 to drawer 1, look in desk 1, microwave 1, shelf 1.")


def test_an_object_that_is_in_place_already_counts():
    game = ROOM + "put two pillow in drawer."
    steps = [
        ("go to bed 1", "On the bed 1, you see a pillow 2, and a pillow 1."),
        ("take pillow 2 from bed 1", "You pick up the pillow 2 from the bed 1."),
        ("go to drawer 1", "You arrive at drawer 1. The drawer 1 is open. In it, you see nothing."),
        ("move pillow 2 to drawer 1", "You move the pillow 2 to the drawer 1."),
        ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see nothing."),
    ]
    assert lesson(game, steps, 4).suggestion == "take pillow 1 from bed 1, move pillow 1 to drawer 1."


def test_a_lamp_is_cited_and_used_where_it_was_seen():
    game = ROOM + "look at mug under the desklamp."
    steps = [PASSED_BY[1], ("go to desk 1", "On the desk 1, you see a desklamp 1."), ("go to bed 1", "")]
    said = lesson(game, steps, 2)
    assert said.summary.endswith("Seen: mug 2 on shelf 1 [1], desklamp 1 on desk 1 [2].")
    assert said.suggestion == "take mug 2 from shelf 1, go to desk 1, use desklamp 1."


def test_quiz_questions_are_answered_from_what_was_read():
    rng = np.random.default_rng(0)
    asked = dict(quiz(MUG, PASSED_BY, rng, 300))
    assert asked["Find mug."] == "Seen: mug 2 on shelf 1 [2]."
    assert asked["Find pillow."] == "Seen: pillow 1 on bed 1 [1]."
    assert asked["[2]"] == "[2] take mug 1 from shelf 1."
    assert asked["Find laptop."] == "Seen: no laptop."
    assert set(asked) & {f"[{turn}]" for turn in range(9)} == {"[0]", "[1]", "[2]", "[3]"}
    assert dict(quiz(MUG, PASSED_BY, np.random.default_rng(0), 300)) == asked


def test_a_quiz_on_an_episode_without_commands_asks_for_what_was_not_seen():
    assert {answer[:8] for _, answer in quiz(MUG, [("", "")], np.random.default_rng(0), 5)} == {"Seen: no"}


@pytest.mark.parametrize("seed", range(3))
def test_lessons_name_only_what_the_player_has_read_and_the_expert_wins_with_them(seed):
    env = ALFWorldEnv(max_steps=80)
    rng = np.random.default_rng(seed)
    for task_id in env.task_ids("train")[seed * 500 : seed * 500 + 12]:
        first, _ = env.reset(options={"task_id": task_id})
        player, observation = env.expert(first, rng, noise=0.6), first
        steps: list[tuple[str, str]] = []
        for _ in range(15):
            action = player.act(observation)
            observation, _, ended, _, _ = env.step(action)
            steps.append((action, observation))
            if ended:
                break
        pivot = int(rng.integers(len(steps)))
        said = lesson(first, steps, pivot)
        text = " ".join([first, *(observation for _, observation in steps)])
        names = re.findall(r"[a-z]+ \d+", re.sub(r"\[\d+\]", "", f"{said.summary} {said.suggestion}"))
        assert names
        assert all(f" {name}" in text for name in names)
        assert said == lesson(first, steps, pivot)
        env.reset(options={"task_id": task_id})
        for action, _ in steps[:pivot]:
            observation, *_ = env.step(action)
        expert = env.resumed_expert(first, steps[:pivot], said.suggestion)
        won, observation = False, first if pivot == 0 else steps[pivot - 1][1]
        for _ in range(80 - pivot):
            observation, _, won, truncated, _ = env.step(expert.act(observation))
            if won or truncated:
                break
        assert won


def test_an_expert_follows_a_suggestion_to_a_place_it_has_not_seen():
    expert = SearchExpert(MUG)
    expert.heed("take mug 1 from drawer 1, heat mug 1 with microwave 1, move mug 1 to desk 1.")
    assert expert.act(MUG) == "go to drawer 1"
    assert expert.act("You arrive at drawer 1. The drawer 1 is closed.") == "open drawer 1"
    opened = "You open the drawer 1. The drawer 1 is open. In it, you see a mug 1."
    assert expert.act(opened) == "take mug 1 from drawer 1"


def test_an_expert_looks_first_where_a_suggestion_says():
    expert = SearchExpert(MUG)
    expert.heed("look in shelf 1, drawer 1.")
    assert expert.search_order[:3] == ["shelf 1", "drawer 1", "bed 1"]


def test_an_expert_that_goes_on_after_somebody_else_is_not_misled_by_their_nonsense():
    expert = SearchExpert(MUG)
    expert.resume([("go to bed 1", "On the bed 1, you see nothing."), ("go to moon 7", "Nothing happens."), ("", "")])
    assert expert.memory.here == "bed 1"
    assert expert.act("Nothing happens.") == "go to desk 1"
