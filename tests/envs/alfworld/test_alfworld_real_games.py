"""The own engine against what the real one did and solved on the real games."""

import pytest

from agentgym_rft.envs.alfworld.compiling import compile_game
from agentgym_rft.envs.alfworld.engine import World
from agentgym_rft.envs.alfworld.pddl import game_document, parse_game
from tests.envs.alfworld.real_games import documents, needs_real_games, traces

pytestmark = needs_real_games


def test_recorded_traces_of_the_real_engine_are_reproduced_without_a_difference():
    wanted = {trace["game"]: trace for trace in traces()}
    num_steps = 0
    for split in ("valid_seen", "train"):
        for task_id, document in documents(split):
            if task_id not in wanted:
                continue
            trace = wanted.pop(task_id)
            world = World(compile_game(parse_game(document, task_id)))
            assert world.observation() == trace["reset"]["observation"], task_id
            assert world.admissible() == trace["reset"]["admissible"], task_id
            for number, step in enumerate(trace["steps"]):
                where = f"{task_id} step {number}: {step['action']}"
                assert world.step(step["action"]) == step["observation"], where
                assert world.admissible() == step["admissible"], where
                assert world.won == step["won"], where
                num_steps += 1
    assert not wanted
    assert num_steps >= 216 * 30


def _won_by_walkthrough(task_id, document):
    game = parse_game(document, task_id)
    world = World(compile_game(game))
    before = world.won
    for command in game.walkthrough:
        assert command in world.admissible(), (task_id, command)
        world.step(command)
    return world.won and not before


def test_walkthroughs_of_valid_seen_win():
    lost = [task_id for task_id, document in documents("valid_seen") if not _won_by_walkthrough(task_id, document)]
    assert lost == []


@pytest.mark.slow
def test_walkthroughs_of_train_win():
    results = [_won_by_walkthrough(task_id, document) for task_id, document in documents("train")]
    assert len(results) == 3553
    assert all(results)


def test_written_real_games_read_as_the_same_games():
    for task_id, document in documents("valid_seen"):
        game = parse_game(document, task_id)
        assert parse_game(game_document(game), task_id) == game


def test_snapshots_of_real_games_restore_in_another_world():
    trace = next(trace for trace in traces() if trace["game"].startswith("valid_seen"))
    game = compile_game(parse_game(dict(documents("valid_seen"))[trace["game"]], trace["game"]))
    world = World(game)
    for step in trace["steps"]:
        copy = World(game)
        copy.restore(world.snapshot())
        assert copy.state_key() == world.state_key()
        assert copy.admissible() == world.admissible()
        assert copy.step(step["action"]) == world.step(step["action"])
