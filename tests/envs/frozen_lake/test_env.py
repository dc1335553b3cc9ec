"""FrozenLake: the rules are gymnasium's; texts, maps, players and snapshots are ours."""

import subprocess
import sys

import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import is_valid

from agentgym_rft.envs.frozen_lake.env import SLIPPERY, FrozenLakeEnv, lake_map
from agentgym_rft.envs.frozen_lake.player import LakePlayer, gymnasium_lake, num_steps_to_goal, plan, read_map
from agentgym_rft.errors import ConfigError, EnvError

CLASSIC = ("SFFF", "FHFH", "FFFH", "HFFG")  # gymnasium's map "4x4"


def task_with(env, tile, row, column):
    """A training task whose map has that tile at a place."""
    return next(
        id for id in env.task_ids("train") if env.task_content(id).decode().split("\n")[1:][row][column] == tile
    )


def test_a_scripted_win_and_a_scripted_loss():
    env = FrozenLakeEnv()
    observation, info = env.reset(options={"task_id": task_with(env, "H", 0, 1)})
    assert observation.splitlines()[-4].startswith("P H")
    assert info["admissible_actions"] == ["down", "right"]
    observation, reward, terminated, truncated, info = env.step("right")
    assert observation.startswith("You fell into a hole. You lose.")
    assert (reward, terminated, truncated, info["won"], info["score"]) == (0.0, True, False, False, 0.0)
    assert env.remaining() is None
    observation, info = env.reset(options={"task_id": info["task_id"]})
    player, left = env.oracle(), env.remaining()
    assert info["task_type"] == f"{left} steps"
    while not info["won"]:
        observation, reward, terminated, _, info = env.step(player.act(observation))
        left -= 1
        assert env.remaining() == left
    assert (left, reward, terminated, info["score"]) == (0, 1.0, True, 1.0)
    assert observation.startswith("You reached the goal. You win.")
    with pytest.raises(EnvError, match="reset"):
        env.step("up")


def test_a_move_over_the_edge_is_allowed_and_goes_nowhere():
    env = FrozenLakeEnv()
    _, before = env.reset(seed=0)
    observation, _, _, _, info = env.step("Move UP")
    assert observation.startswith("You are where you were.")
    assert (info["invalid_action"], info["state_key"]) == (False, before["state_key"])
    observation, _, _, _, info = env.step("swim")
    assert observation.startswith("That is no action.")
    assert info["invalid_action"] is True


@pytest.mark.parametrize(("lake", "shortest"), [(CLASSIC, 6), (("SFH", "HFF", "FHG"), 4), (("SH", "HG"), None)])
def test_shortest_ways_worked_by_hand(lake, shortest):
    assert num_steps_to_goal(lake, 0, 0) == shortest


def test_on_firm_ice_the_plan_is_a_shortest_way():
    best = plan(CLASSIC, False, 10)
    cell, actions = 0, []
    for left in range(10, 4, -1):
        action = int(best[left - 1, cell])
        actions.append(action)
        cell += (-1, 4, 1, -4)[action]
    assert cell == 15


def test_on_slippery_ice_the_plan_wins_as_often_as_is_known():
    # Undiscounted, an optimal policy of the classic map reaches the goal with probability 14/17 = 0.8235.
    env = FrozenLakeEnv(is_slippery=True, max_steps=1000)
    player = LakePlayer(1000, True)
    best = plan(CLASSIC, True, 1000)
    value = np.zeros(16)
    model = gymnasium_lake(CLASSIC, True).P
    for left in range(1000):
        chosen = [model[cell][int(best[left, cell])] for cell in range(16)]
        value = np.array([sum(p * (r + (not over) * value[s]) for p, s, r, over in outcomes) for outcomes in chosen])
    assert value[0] == pytest.approx(14 / 17, abs=1e-3)
    observation, info = env.reset(seed=0)
    assert SLIPPERY in observation
    assert player.act(observation) in info["admissible_actions"] == ["left", "down", "right", "up"]
    assert env.remaining() is None


def test_slips_depend_on_the_seed_alone():
    def episode(seed):
        env = FrozenLakeEnv(is_slippery=True)
        env.reset(seed=seed, options={"task_id": env.task_ids("test")[0]})
        states = []
        while True:
            *_, terminated, truncated, info = env.step("right")
            states.append(info["state_key"])
            if terminated or truncated:
                return states

    episodes = [tuple(episode(seed)) for seed in range(10)]
    assert episodes == [tuple(episode(seed)) for seed in range(10)]
    assert len(set(episodes)) > 3


def test_maps_are_gymnasiums_and_have_a_way():
    for size in (4, 6):
        env = FrozenLakeEnv(size=size)
        contents = [env.task_content(id).decode() for split in env.splits for id in env.task_ids(split)]
        assert len(contents) == len(set(contents)) == 600
        for content in contents[::60]:
            assert is_valid([list(row) for row in content.split("\n")[1:]], size)
    assert lake_map(4, 0.8, 3) == lake_map(4, 0.8, 3)


def test_the_noisy_expert_reads_the_map_and_does_not_drown_on_firm_ice():
    env, wins, num_steps = FrozenLakeEnv(size=6), 0, 0
    for task_id in env.task_ids("test")[:20]:
        observation, info = env.reset(options={"task_id": task_id})
        expert = env.expert(observation, np.random.default_rng(1), noise=0.3)
        terminated = truncated = False
        while not (terminated or truncated):
            observation, _, terminated, truncated, info = env.step(expert.act(observation))
            num_steps += 1
        wins += info["won"]
    assert wins == 20
    assert num_steps > 20 * 10


def test_the_map_of_an_observation_is_read_back():
    env = FrozenLakeEnv()
    observation, info = env.reset(seed=3)
    lake, row, column = read_map(observation)
    assert (row, column) == (0, 0)
    assert info["state_key"] == f"firm {'/'.join(lake)} 0,0"
    for text in ("", "F F\nF F", "P P", "P F\nF", "P x\nF G"):
        with pytest.raises(EnvError, match="map"):
            read_map(text)


@pytest.mark.parametrize("options", [{"size": 3}, {"size": 13}, {"frozen": 1.0}, {"frozen": 0.1}, {"max_steps": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="expected"):
        FrozenLakeEnv(**options)


def test_pygame_is_not_needed():
    code = (
        "import sys; from agentgym_rft.envs.frozen_lake.env import FrozenLakeEnv; env = FrozenLakeEnv(); "
        "env.reset(seed=0); env.step('right'); sys.exit('pygame' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
