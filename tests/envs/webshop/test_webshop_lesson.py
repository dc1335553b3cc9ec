"""What an episode teaches, and the expert that follows it."""

from __future__ import annotations

import numpy as np
import pytest

from agentgym_rft.envs.base import Lesson
from agentgym_rft.envs.webshop.env import WebShopEnv
from agentgym_rft.envs.webshop.lesson import HeedingPlayer, lesson
from agentgym_rft.envs.webshop.transcript import UNREAD, read_page, read_scenes, read_wanted
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.reflection.hindsight import pivot_of

GOAL = "Find me easy clean, bpa free mugs with color: blue, and size: large, and price lower than 20.00 dollars"
HEAD = f"Instruction: [SEP] {GOAL} [SEP] Back to Search [SEP] "
START = f"WebShop [SEP] Instruction: [SEP] {GOAL} [SEP] Search"
RESULTS = (
    f"{HEAD}Page 1 (Total results: 3) [SEP] B000000001 [SEP] Tall BPA Free Mug [SEP] $9.0 [SEP] "
    "B000000002 [SEP] Easy Clean BPA Free Mug [SEP] $12.5 [SEP] "
    "B000000003 [SEP] Golden Easy Clean BPA Free Mug [SEP] $99.0"
)
END = " [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
TALL = f"{HEAD}< Prev [SEP] Tall BPA Free Mug [SEP] Price: $9.0{END}"
GOOD = (
    f"{HEAD}< Prev [SEP] color [SEP] blue [SEP] red [SEP] size [SEP] small [SEP] large [SEP] "
    f"Easy Clean BPA Free Mug [SEP] Price: $12.5{END}"
)
GOLDEN = f"{HEAD}< Prev [SEP] Golden Easy Clean BPA Free Mug [SEP] Price: $99.0{END}"
FEATURES = f"{HEAD}< Prev [SEP] Made in one piece. [SEP] Easy Clean."


def bought(score: float) -> str:
    """The page after buying."""
    return (
        "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] Reward [SEP] "
        f"Your score (min 0.0, max 1.0) [SEP] {score} [SEP] Reward Details [SEP] None"
    )


SEARCH = ("search[mugs easy clean bpa free blue large]", RESULTS)


def test_a_lesson_about_buying_before_the_options_names_the_clicks_that_are_missing() -> None:
    steps = [SEARCH, ("click[b000000002]", GOOD), ("click[large]", GOOD), ("click[buy now]", bought(0.75))]
    assert lesson(START, steps, 3) == Lesson(
        "Bought Easy Clean BPA Free Mug with large; score 0.75.",
        "[3] click[buy now] came before click[blue].",
        "click[blue], click[buy now].",
    )


def test_a_lesson_about_the_wrong_product_says_what_it_lacks_and_opens_another() -> None:
    steps = [SEARCH, ("click[b000000001]", TALL), ("click[buy now]", bought(0.6))]
    opened = lesson(START, steps, 1)
    assert opened.cause == "[1] click[b000000001] opened a product without easy clean."
    assert opened.suggestion == "click[b000000002], click[blue], click[large], click[buy now]."
    at_the_end = lesson(START, steps, 2)
    assert at_the_end.cause == "[2] click[buy now] bought a product without easy clean."
    assert at_the_end.suggestion == f"click[< prev], {opened.suggestion}"


def test_what_the_features_say_counts() -> None:
    steps = [SEARCH, ("click[b000000001]", TALL), ("click[features]", FEATURES), ("click[back to search]", START)]
    assert lesson(START, steps, 1).cause == "[1] click[b000000001] was wrong."
    assert lesson(START, steps, 3).suggestion == "click[< prev], click[buy now]."


def test_a_product_that_costs_too_much_is_named_and_not_suggested() -> None:
    steps = [SEARCH, ("click[b000000003]", GOLDEN), ("click[buy now]", bought(0.8))]
    said = lesson(START, steps, 2)
    assert said.cause == "[2] click[buy now] bought a product that costs too much."
    assert "b000000003" not in said.suggestion


def test_a_lesson_about_a_wrong_option_clicks_the_right_one() -> None:
    steps = [SEARCH, ("click[b000000002]", GOOD), ("click[blue]", GOOD), ("click[red]", GOOD), ("click[nothing]", GOOD)]
    said = lesson(START, steps, 3)
    assert said.summary == "Bought nothing. Opened Easy Clean BPA Free Mug [2]."
    assert said.cause == "[3] click[red] was not asked for."
    assert said.suggestion == "click[large], click[buy now]."  # there blue is chosen


def test_options_are_lost_on_the_way_back_to_the_results() -> None:
    steps = [SEARCH, ("click[b000000002]", GOOD), ("click[blue]", GOOD), ("click[< prev]", RESULTS)]
    again = [*steps, ("click[b000000002]", GOOD), ("click[buy now]", bought(0.5))]
    assert lesson(START, again, 3).suggestion == "click[large], click[buy now]."
    assert lesson(START, again, 5).suggestion == "click[blue], click[large], click[buy now]."


def test_a_lesson_about_a_search_says_which_words_it_left_out() -> None:
    said = lesson(START, [("search[easy mugs]", RESULTS)], 0)
    assert said.cause == "[0] search[easy mugs] left out clean, bpa, free, blue, large."
    assert said.suggestion == "search[mugs easy clean bpa free blue large]."
    assert said.summary == "Bought nothing. Opened nothing."


def test_after_the_full_search_the_words_of_the_instruction_are_next() -> None:
    said = lesson(START, [SEARCH], 0)
    assert said.cause.endswith("did not find it.")
    assert said.suggestion.startswith("search[find me easy clean bpa free mugs with color blue")


def test_where_no_turn_was_wrong_the_lesson_is_about_the_start() -> None:
    said = lesson(START, [("nothing", START), ("", "")], None)
    assert (said.cause, said.suggestion) == ("Nothing led to the goal.", "search[mugs easy clean bpa free blue large].")


def test_without_an_instruction_what_was_searched_is_what_was_wanted() -> None:
    steps = [
        ("search[mugs bpa free blue]", "Page 1 (Total results: 2)\n1 Tall Mug $9.0\n2 BPA Free Mug $5.0 to $9.5"),
        ("click[1]", "Tall Mug\nPrice: $9.0"),
        ("click[buy now]", "Bought. Your score: 0.25"),
    ]
    said = lesson("Search.", steps, 1)
    assert said.summary == "Bought Tall Mug; score 0.25."
    assert said.cause == "[1] click[1] opened a product without bpa, free, blue."
    assert said.suggestion == "click[2]."
    assert lesson("Search.", [("nothing", "Search.")], None).suggestion == "Take another action there."
    assert lesson(f"Search.\nGoal: {GOAL}", steps, 0).suggestion == "search[mugs easy clean bpa free blue large]."


def test_pages_with_earlier_ones_before_them_are_read_as_the_last() -> None:
    assert read_page(f"{START} [SEP] search[mug] [SEP] {RESULTS}").kind == "results"
    assert read_page(f"{RESULTS} [SEP] click[b000000002] [SEP] {GOOD}").title == "Easy Clean BPA Free Mug"
    assert read_page(f"{GOOD} [SEP] click[buy now] [SEP] {bought(0.5)}").kind == "done"
    assert read_page("Search. [SEP] search[mug] [SEP] Page 1 (Total results: 0)").kind == "results"


@pytest.mark.parametrize("page", ["http://127.0.0.1:3000/7", "<!DOCTYPE html><html><body></body></html>"])
def test_modes_that_are_not_read_get_a_lesson_without_commands(page: str) -> None:
    assert read_page(page) is UNREAD
    said = lesson(page, [("search[mug]", page), ("click[x]", page)], 1)
    assert (said.cause, said.suggestion) == ("[1] click[x] was wrong.", "Take another action there.")


@pytest.mark.parametrize("page", ["", "\n", "Price: $", "a\nPrice: $1.2.3\n: ;", "Instruction: [SEP] x", "Page 1"])
def test_odd_pages_never_raise(page: str) -> None:
    for action in ("search[a", "search[x]", "click[]", "click[buy now]", ""):
        for pivot in (0, 1, None):
            assert lesson(page, [(action, page), (action, START)], pivot).suggestion


Episode = tuple[str, list[tuple[str, str]], list[int], list[bytes], bool]


def play(env: WebShopEnv, task_id: str, seed: int, noise: float) -> Episode:
    """An expert's first observation, steps, distances, snapshots, and whether it won."""
    first, _ = env.reset(options={"task_id": task_id})
    player, observation = env.expert(first, np.random.default_rng(seed), noise), first
    steps: list[tuple[str, str]] = []
    left, snapshots, is_over = [env.remaining()], [env.snapshot()], False
    while not is_over:
        action = player.act(observation)
        observation, _, terminated, truncated, info = env.step(action)
        steps.append((action, observation))
        left.append(env.remaining())
        snapshots.append(env.snapshot())
        is_over = terminated or truncated
    return first, steps, [number for number in left if number is not None], snapshots, info["won"]


def failures(env: WebShopEnv, number: int, noise: float) -> list[Episode]:
    found = []
    for index, task_id in enumerate(env.task_ids("train")[:number]):
        episode = play(env, task_id, index, noise)
        if not episode[-1]:
            found.append(episode)
    return found


def test_suggestions_begin_with_what_is_possible_and_who_heeds_them_wins_more() -> None:
    env = WebShopEnv()
    episodes = failures(env, 250, 0.5)
    assert len(episodes) > 50
    wins = {True: 0, False: 0}
    for first, steps, left, snapshots, _ in episodes:
        pivot = pivot_of(left)
        said = env.lesson(first, steps, pivot)
        command = said.suggestion.partition(", ")[0].rstrip(".")
        for heeds in wins:
            observation, info = env.restore(snapshots[pivot])
            assert command in info["admissible_actions"] or command.startswith("search["), said
            suggestion = said.suggestion if heeds else steps[pivot][0] + "."
            player = env.resumed_expert(first, steps[:pivot], suggestion)
            is_over = False
            while not is_over:
                observation, _, terminated, truncated, info = env.step(player.act(observation))
                assert not info["invalid_action"]
                is_over = terminated or truncated
            wins[heeds] += info["won"]
    assert wins[True] > 0.55 * len(episodes)
    assert wins[True] > wins[False] + 0.05 * len(episodes)


def test_modes_teach_alike_given_the_goal() -> None:
    task_ids = WebShopEnv().task_ids("train")[:40]
    plain, rich, short = (WebShopEnv(observation_mode=mode) for mode in ("text", "text_rich", "compact"))
    num_lessons = 0
    for index, task_id in enumerate(task_ids):
        texts = []
        for env in (plain, rich, short):
            first, steps, *_ = play(env, task_id, index, 0.5)
            goal = f"\nGoal: {env.session.goal.instruction}" if env is short else ""
            texts.append([env.lesson(first + goal, steps, pivot) for pivot in (*range(len(steps)), None)])
        assert texts[0] == texts[1]
        for said, also in zip(texts[0], texts[2], strict=True):
            assert said.summary == also.summary
            assert said.cause.partition("] ")[2].partition("]")[2] == also.cause.partition("] ")[2].partition("]")[2]
            assert said.suggestion.count("click[") == also.suggestion.count("click[")
            num_lessons += 1
    assert num_lessons > 300


def test_lessons_use_only_words_that_were_read_or_done() -> None:
    env = WebShopEnv()
    for first, steps, left, _, _ in failures(env, 40, 0.5):
        said = env.lesson(first, steps, pivot_of(left))
        read = " ".join((first, *(part for step in steps for part in step))).lower()
        for command in said.suggestion.rstrip(".").split("], "):
            argument = command.partition("[")[2].rstrip("]")
            words = argument.split() if command.startswith("search[") else [argument]
            assert all(word in read.replace("-", " ") or word in read for word in words), (said, command)


def test_commands_are_done_in_order_as_soon_as_they_are_possible() -> None:
    class Nothing:
        def act(self, observation: str) -> str:
            return "click[< prev]"

    possible = ["click[red]"]
    player = HeedingPlayer("search[a mug, red], click[1, 2], click[buy now].", Nothing(), lambda: possible)
    assert player.act("") == "click[< prev]"
    possible[:] = ["search[<your query>]"]
    assert player.act("") == "search[a mug, red]"
    possible[:] = ["click[buy now]"]
    assert player.act("") == "click[< prev]"
    possible[:] = ["click[1, 2]", "click[buy now]"]
    assert [player.act("") for _ in range(3)] == ["click[1, 2]", "click[buy now]", "click[< prev]"]


def test_an_expert_of_one_try_buys_the_first_product_that_it_opens() -> None:
    lengths = {}
    for tries in (1, 3):
        env = WebShopEnv(expert_tries=tries)
        episodes = [play(env, task_id, 0, 0.0) for task_id in env.task_ids("dev")]
        lengths[tries] = [len(steps) for _, steps, _, _, _ in episodes]
        if tries == 1:
            opened = [[a for a, _ in steps if a.startswith("click[b0")] for _, steps, _, _, _ in episodes]
            assert {len(products) for products in opened} == {1}
            assert not any(a == "click[features]" for _, steps, _, _, _ in episodes for a, _ in steps)
    assert max(lengths[1]) <= 7 < max(lengths[3])
    with pytest.raises(ConfigError, match="expert_tries is 0; expected at least 1"):
        WebShopEnv(expert_tries=0)


def test_scenes_hold_what_is_chosen() -> None:
    steps = [SEARCH, ("click[b000000002]", GOOD), ("click[blue]", GOOD), ("click[red]", GOOD), ("click[small]", GOOD)]
    scenes = read_scenes(START, [*steps, ("", ""), ("click[features]", FEATURES), ("click[back to search]", START)])
    assert [dict(scene.chosen) for scene in scenes[3:]] == [
        {"color": "blue"},
        {"color": "red"},
        {"color": "red", "size": "small"},
        {"color": "red", "size": "small"},
        {"color": "red", "size": "small"},
        {},
    ]
    assert read_wanted(scenes, steps).options == (("color", "blue"), ("size", "large"))
