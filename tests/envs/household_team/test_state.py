"""Snapshots and state keys of a team, and play at random."""

import json

import numpy as np
import pytest

from agentgym_rft.envs.household_team.env import HouseholdTeamEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import EnvError
from tests.envs.household_team.teams import act, room, team

TEAMS = ({"num_agents": 1}, {"num_agents": 2}, {"num_agents": 4}, {"num_agents": 3, "roles": "planner"})
ODD = ("", "say:", "say: there is a mug", "SAY: " + "x" * 300, "wait", "sit down", "\ud800 \x00", "go to ")


def random_action(env, rng):
    if rng.random() < 0.2:
        return ODD[int(rng.integers(len(ODD)))]
    return env.random_player(env.agent_selection, rng).act("")


def seen(env):
    return [
        {agent: env.observe(agent) for agent in env.agents},
        *(env.rewards, env.terminations, env.truncations, env.infos, env.agents, env.agent_selection, env.remaining()),
    ]


@pytest.mark.parametrize("options", TEAMS)
def test_random_play_with_any_text_ends_and_a_snapshot_anywhere_goes_on_bit_by_bit(options):
    env, other = HouseholdTeamEnv(**options), HouseholdTeamEnv(**options)
    for seed, task_id in enumerate(env.task_ids("train")[:6]):
        rng = np.random.default_rng(seed)
        env.reset(seed=seed, options={"task_id": task_id})
        for _ in range(int(rng.integers(1, 40))):
            env.step(random_action(env, rng))
        snapshot = env.snapshot()
        other.reset(seed=9)
        other.step("look")
        other.restore(snapshot)
        assert other.snapshot() == snapshot == env.snapshot()
        while True:
            assert seen(env) == seen(other)
            if any((env.terminations | env.truncations).values()):
                break
            action = random_action(env, rng)
            env.step(action)
            other.step(action)


def test_the_listed_actions_of_all_are_those_that_the_engine_lists():
    env, fresh = HouseholdTeamEnv(num_agents=3, max_steps=200), HouseholdTeamEnv(num_agents=3, max_steps=200)
    rng = np.random.default_rng(1)
    env.reset(options={"task_id": env.task_ids("train")[1]})
    for _ in range(150):
        env.step(random_action(env, rng))
        fresh.restore(env.snapshot())  # which remembers no list
        assert fresh.infos == env.infos


def key_after(folder, *actions, **options):
    env = team(folder, room(), **options)
    act(env, *actions)
    return env.infos[env.agent_selection]["state_key"]


def test_states_that_differ_in_anything_that_matters_have_different_keys(tmp_path):
    start = team(tmp_path, room(), num_agents=2).infos["worker_1"]["state_key"]
    moves = [
        ("look", "look"),
        ("go to table 1", "look"),
        ("look", "go to table 1"),
        ("go to shelf 1", "look"),
        ("go to shelf 1", "use desklamp 1"),
        ("look",),
        ("say: one",),
        ("look", "say: one"),
        ("look", "inventory"),
        ("go to table 1", "look", "take mug 1 from table 1", "look"),
        ("look", "go to table 1", "look", "take mug 1 from table 1"),
    ]
    keys = [start, *(key_after(tmp_path, *actions) for actions in moves)]
    assert len(set(keys)) == len(keys)


def test_equal_states_have_equal_keys_in_every_seat(tmp_path):
    first = key_after(tmp_path, "go to table 1", "look", "go to shelf 1", "look")
    assert first == key_after(tmp_path, "look", "look", "go to shelf 1", "look")
    env = team(tmp_path, room(), num_agents=2)
    assert len({env.infos[agent]["state_key"] for agent in env.agents}) == 1


def test_what_was_read_is_no_longer_part_of_the_state(tmp_path):
    heard = key_after(tmp_path, "say: one", "look", "look", "look")
    assert heard == key_after(tmp_path, "look", "look", "look", "look")


@pytest.mark.parametrize(
    "others", [[[99, -1, 0, 0]], [[0, 99, 0, 0]], [], [[0]], [[0, -1, 0, -1]], [["a", 0, 0, 0]], 5]
)
def test_a_damaged_snapshot_is_refused(tmp_path, others):
    env = team(tmp_path, room(), num_agents=2)
    saved = json.loads(env.snapshot())
    saved["state"]["others"] = others
    with pytest.raises(EnvError, match="damaged"):
        env.restore(json.dumps(saved).encode())


def test_a_snapshot_of_another_team_is_refused(tmp_path):
    snapshot = team(tmp_path, room(), num_agents=2).snapshot()
    with pytest.raises(EnvError, match="options"):
        team(tmp_path, room(), num_agents=3).restore(snapshot)


def test_as_one_stream_of_turns_each_observation_is_for_the_next_agent(tmp_path):
    env = TurnsEnv(team(tmp_path, room(), num_agents=2))
    _, info = env.reset()
    assert info["agents"] == {"worker_1": "worker", "worker_2": "worker"}
    second, reward, *_, info = env.step("go to table 1")
    assert second.startswith("-= Welcome")
    assert (info["agent"], reward) == ("worker_2", 0.0)
    first, *_ = env.step("say: hello")
    assert first == "You arrive at table 1. On the table 1, you see a apple 1, and a mug 1.\nworker_2 says: hello"
