"""Sokoban: moves, solver, generator, episodes."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym_rft.envs.sokoban.env import SokobanEnv
from agentgym_rft.envs.sokoban.generate import Kind, make_level
from agentgym_rft.envs.sokoban.player import Player, read_grid
from agentgym_rft.envs.sokoban.room import DIRECTIONS, canonical, move, parse, rows
from agentgym_rft.envs.sokoban.solver import live_cells, possible_moves, solve
from agentgym_rft.errors import ConfigError, DataError, EnvError

CORRIDOR = ["#######", "#@_$_.#", "#######"]
CORNER = ["#####", "#$__#", "#_@_#", "#__.#", "#####"]


def walk(grid, words):
    """The grid after moves; None where one of them is not possible."""
    room, position = parse(grid)
    for word in words:
        position = move(room, position, room.steps[DIRECTIONS.index(word)])
        if position is None:
            return None
    return rows(room, position)


def shortest_by_brute_force(room, start):
    """Moves of a shortest solution by breadth-first search over all positions; None if there is none."""
    depth, queue = {start: 0}, deque([start])
    while queue:
        position = queue.popleft()
        if position.boxes == room.targets:
            return depth[position]
        for step in room.steps:
            after = move(room, position, step)
            if after is not None and after not in depth:
                depth[after] = depth[position] + 1
                queue.append(after)
    return None


def test_a_box_is_pushed_and_nothing_is_pushed_through_walls_or_boxes():
    assert walk(CORRIDOR, ["right"]) == ["#######", "#_@$_.#", "#######"]
    assert walk(CORRIDOR, ["right", "right"]) == ["#######", "#__@$.#", "#######"]
    assert walk(CORRIDOR, ["right"] * 3) == ["#######", "#___@*#", "#######"]
    assert walk(CORRIDOR, ["right"] * 4) is None
    assert walk(CORRIDOR, ["left"]) is None
    assert walk(["#######", "#@$$..#", "#######"], ["right"]) is None


def test_the_player_is_shown_on_a_target_and_leaves_it_as_it_was():
    grid = ["#####", "#@._#", "#_$_#", "#####"]
    assert walk(grid, ["right"]) == ["#####", "#_+_#", "#_$_#", "#####"]
    assert walk(grid, ["right", "right"]) == ["#####", "#_.@#", "#_$_#", "#####"]


def test_solutions_worked_by_hand():
    room, start = parse(CORRIDOR)
    assert solve(room, start).moves == ("right",) * 3
    grid = ["######", "#@___#", "#_$__#", "#___.#", "######"]
    # Down, two pushes to the right, round the box by up and right, and one push down.
    room, start = parse(grid)
    plan = solve(room, start)
    assert plan.moves == ("down", "right", "right", "up", "right", "down")
    assert walk(grid, plan.moves) == ["######", "#____#", "#___@#", "#___*#", "######"]


def test_a_box_in_a_corner_has_no_solution():
    room, start = parse(CORNER)
    assert solve(room, start) is None
    assert not live_cells(room) & start.boxes


def test_a_solved_room_needs_no_move():
    room, start = parse(["#####", "#@_*#", "#####"])
    assert solve(room, start).moves == ()


def test_a_search_gives_up_at_its_bound():
    level = make_level(Kind(7, 7, 2, 10), "train", 0)
    assert solve(level.room, level.start, max_nodes=1) is None


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 4), st.integers(2, 5), st.integers(1, 2), st.randoms(use_true_random=False))
def test_plans_are_as_short_as_brute_force_finds_and_win(height, width, boxes, random):
    cells = [(y, x) for y in range(height) for x in range(width)]
    random.shuffle(cells)
    symbols = ["@"] + ["$"] * boxes + ["."] * boxes + ["#"] * (len(cells) // 5)
    symbols = [*symbols, *["_"] * len(cells)][: len(cells)]
    if symbols.count(".") < boxes:
        return
    inside = dict(zip(cells, symbols, strict=True))
    grid = ["".join(inside.get((y, x), "#") for x in range(-1, width + 1)) for y in range(-1, height + 1)]
    room, start = parse(grid)
    plan, shortest = solve(room, start), shortest_by_brute_force(room, start)
    assert (None if plan is None else plan.num_moves) == shortest
    if plan is not None:
        assert not set("".join(walk(grid, plan.moves))) & set("$.+")


@pytest.mark.parametrize(
    "grid",
    [
        [],
        ["###", "#@#"],
        ["####", "#@$#", "####"],
        ["####", "#_*#", "####"],
        ["#####", "#@x_#", "#####"],
        ["###", "##"],
    ],
)
def test_what_is_no_room_is_refused(grid):
    with pytest.raises(DataError):
        parse(grid)


@pytest.mark.parametrize(("width", "height"), [(7, 7), (6, 9)])
def test_turned_and_mirrored_rooms_are_the_same_by_content(width, height):
    level = make_level(Kind(width, height, 2, 8), "train", 3)
    grid = rows(level.room, level.start)
    turned = ["".join(column) for column in zip(*grid[::-1], strict=True)]
    forms = [grid, grid[::-1], [row[::-1] for row in grid], turned, turned[::-1]]
    assert {canonical(form) for form in forms} == {canonical(grid)}
    other = make_level(Kind(width, height, 2, 8), "train", 4)
    assert other.content() != level.content()


@pytest.mark.parametrize("kind", [Kind(5, 5, 1, 3), Kind(7, 7, 2, 10), Kind(9, 6, 2, 12)])
def test_levels_are_solvable_and_as_hard_as_asked(kind):
    for split in ("train", "test"):
        for seed in range(5):
            level = make_level(kind, split, seed)
            assert level.num_moves >= kind.difficulty
            assert shortest_by_brute_force(level.room, level.start) == level.num_moves
            assert level.start.boxes.bit_count() == level.room.targets.bit_count() == kind.boxes
            assert (level.room.width, level.room.height) == (kind.width, kind.height)


def test_no_layout_is_in_both_splits_in_any_orientation_or_with_another_player():
    kind = Kind(5, 5, 1, 2)  # so small that layouts repeat
    layouts = {
        split: {
            canonical([row.replace("@", "_").replace("+", ".") for row in rows(level.room, level.start)])
            for level in (make_level(kind, split, seed) for seed in range(120))
        }
        for split in ("train", "test")
    }
    assert len(layouts["train"]) < 120
    assert layouts["train"].isdisjoint(layouts["test"])


def test_an_impossible_difficulty_is_refused():
    with pytest.raises(ConfigError, match="lower difficulty"):
        SokobanEnv(width=5, height=5, boxes=1, difficulty=60).reset(seed=0)


@pytest.mark.parametrize(
    "options", [{"width": 4}, {"height": 13}, {"boxes": 0}, {"boxes": 6}, {"difficulty": 0}, {"max_steps": 0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="expected"):
        SokobanEnv(**options)


def test_a_scripted_win_counts_remaining_down_to_zero():
    env = SokobanEnv()
    assert env.remaining() is None
    observation, info = env.reset(seed=5)
    player, left = env.oracle(), [env.remaining()]
    assert info["task_type"] == f"{left[0] // 10 * 10}-{left[0] // 10 * 10 + 9} moves"
    rewards = []
    while not info["won"]:
        action = player.act(observation)
        assert action in info["admissible_actions"]
        observation, reward, terminated, truncated, info = env.step(action)
        left.append(env.remaining())
        rewards.append(reward)
    assert left == list(range(left[0], -1, -1))
    assert rewards == [0.0] * (left[0] - 1) + [1.0]
    assert (terminated, truncated, info["score"]) == (True, False, 1.0)
    assert observation.startswith("You push a box")
    assert "You win." in observation


def test_a_lost_position_goes_on_to_the_step_limit():
    env = SokobanEnv(max_steps=300)
    observation, info = env.reset(seed=5)
    rng = np.random.default_rng(0)
    while env.remaining() is not None:  # push about until a box is stuck
        observation, _, terminated, _, info = env.step(str(rng.choice(info["admissible_actions"])))
        assert not terminated
    stuck, truncated, num_steps = env.oracle(), False, 0
    while not truncated:
        observation, reward, terminated, truncated, info = env.step(stuck.act(observation))
        assert (reward, terminated, info["won"]) == (0.0, False, False)
        num_steps += 1
    assert num_steps > 100
    with pytest.raises(EnvError, match="reset"):
        env.step("up")


@pytest.mark.parametrize("form", ["up", "UP", " Up ", "move up", "Move UP.", "go up", "push up"])
def test_moves_may_be_written_in_several_ways(form):
    def after(action):
        env = SokobanEnv()
        env.reset(seed=1)
        return env.step(action)[4]["state_key"]

    assert after(form) == after("up")


def test_what_is_no_move_or_not_possible_changes_nothing_and_is_told():
    env = SokobanEnv()
    _, before = env.reset(seed=1)
    blocked = next(word for word in DIRECTIONS if word not in before["admissible_actions"])
    for action, said in (("jump", "That is no action."), ("up up", "That is no action."), (blocked, "You cannot move")):
        observation, reward, *_, info = env.step(action)
        assert observation.startswith(said)
        assert (reward, info["invalid_action"], info["state_key"]) == (0.0, True, before["state_key"])


def test_the_noisy_expert_walks_astray_and_still_wins():
    env = SokobanEnv(max_steps=300)
    lengths, shortest = [], []
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        shortest.append(env.remaining())
        expert = env.expert(observation, np.random.default_rng(seed), noise=0.3)
        num_steps = 0
        while not info["won"]:
            observation, _, _, truncated, info = env.step(expert.act(observation))
            assert not truncated
            num_steps += 1
        lengths.append(num_steps)
    assert sum(lengths) > sum(shortest)


def test_observations_show_the_grid_that_the_player_reads():
    env = SokobanEnv(width=8, height=6)
    observation, info = env.reset(seed=2)
    room, position = read_grid(observation)
    assert "/".join(rows(room, position)) == info["state_key"]
    assert possible_moves(room, position) == info["admissible_actions"]
    with pytest.raises(EnvError, match="grid"):
        Player().act("Nothing here.")
