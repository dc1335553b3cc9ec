"""The oracle and the experts of a team."""

from itertools import pairwise

import numpy as np
import pytest

from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.household_team.env import HouseholdTeamEnv
from agentgym_rft.envs.household_team.experts import PlannerExpert, WorkerExpert
from agentgym_rft.envs.turns import TurnsEnv
from tests.envs.household_team.teams import act, room, team

TEAMS = (
    {"num_agents": 1},
    {"num_agents": 2},
    {"num_agents": 3},
    {"num_agents": 2, "roles": "planner"},
    {"num_agents": 3, "roles": "planner"},
)


def play(env, player, observation):
    """Whether the episode is won, and what was left to do before each turn."""
    left = []
    while True:
        left.append(env.remaining())
        observation, _, terminated, truncated, info = env.step(player.act(observation))
        if terminated or truncated:
            return info["won"], left


@pytest.mark.parametrize("options", TEAMS)
@pytest.mark.parametrize("split", ["train", "valid_seen", "valid_unseen"])
def test_the_oracle_wins_every_task_in_no_more_turns_than_are_said_to_be_left(options, split):
    env = TurnsEnv(HouseholdTeamEnv(split=split, **options))
    for task_id in env.task_ids(split)[:12]:
        observation, _ = env.reset(options={"task_id": task_id})
        won, left = play(env, env.oracle(), observation)
        assert won
        assert all(after < before for before, after in pairwise(left))
        assert len(left) <= left[0]
        assert env.remaining() == 0


@pytest.mark.parametrize("options", TEAMS)
def test_the_oracle_wins_from_wherever_random_play_left_the_team(options):
    env = TurnsEnv(HouseholdTeamEnv(max_steps=200, **options))
    for seed, task_id in enumerate(env.task_ids("train")[:12]):
        observation, _ = env.reset(options={"task_id": task_id})
        player = env.random_player(np.random.default_rng(seed))
        for _ in range(60):
            observation, _, terminated, _, _ = env.step(player.act(observation))
            if terminated:
                break
        else:
            won, left = play(env, env.oracle(), observation)
            assert won
            assert all(after < before for before, after in pairwise(left))


def test_two_workers_bring_one_object_each(tmp_path):
    env = team(tmp_path, room(TaskType.TWO), num_agents=2)
    # One alone: go, take, go, move; go, open, take, go, move: 9 commands, 17 turns of two. Shared: the longer errand
    # is that of the first, go, open, take, go, move, which ends with turn 9.
    assert env.remaining() == 9
    act(env, "look")
    assert env.remaining() == 9  # the second can fetch from the drawer as well
    env.step("go to shelf 1")  # neither of the two makes up for that
    assert env.remaining() > 8


def test_two_who_hold_one_object_each_need_each_other(tmp_path):
    env = team(tmp_path, room(TaskType.TWO), num_agents=2)
    act(env, "go to table 1", "go to drawer 1", "take mug 1 from table 1", "open drawer 1", "look")
    env.step("take mug 2 from drawer 1")
    assert env.remaining() == 4  # go, go, move, move
    assert [env.oracle(agent).act("") for agent in env.agents] == ["go to shelf 1"] * 2


def test_the_oracles_planner_says_the_task_once_and_waits(tmp_path):
    env = team(tmp_path, room(), num_agents=2, roles="planner")
    player = env.oracle("planner")
    assert [player.act(""), player.act("")] == ["say: Your task is to: put some mug on shelf.", "wait"]
    short = team(tmp_path, room(), num_agents=2, roles="planner", max_say=5)
    assert short.oracle("planner").act("") == "wait"


@pytest.mark.parametrize("options", [{"num_agents": 2}, {"num_agents": 3}, {"num_agents": 3, "roles": "planner"}])
def test_the_experts_win_most_tasks_and_never_fail_to_answer(options):
    env = TurnsEnv(HouseholdTeamEnv(**options))
    wins = 0
    for noise in (0.0, 0.3):
        for seed, task_id in enumerate(env.task_ids("valid_unseen")[:20]):
            observation, _ = env.reset(options={"task_id": task_id})
            won, _ = play(env, env.expert(observation, np.random.default_rng(seed), noise), observation)
            wins += won and noise == 0
    assert wins >= 16


def test_a_planner_tells_the_task_and_a_worker_waits_for_it(tmp_path):
    env = team(tmp_path, room(), num_agents=2, roles="planner")
    rng = np.random.default_rng(0)
    planner, worker = (env.expert(agent, env.observe(agent), rng) for agent in env.agents)
    assert isinstance(planner, PlannerExpert)
    assert isinstance(worker, WorkerExpert)
    assert [worker.act("You see nothing."), worker.act("Looking.\nplanner says: be quick")] == ["look", "look"]
    message = planner.act(env.observe("planner"))
    assert message == "say: Your task is to: put some mug on shelf."
    assert worker.act(f"Looking.\nplanner says: {message[5:]}") == "go to shelf 1"
    assert planner.act("Your message was sent.") == "wait"


def test_a_worker_goes_by_a_task_that_is_said_without_its_usual_words(tmp_path):
    env = team(tmp_path, room(), num_agents=2, roles="planner")
    worker = env.expert("worker_1", env.observe("worker_1"), np.random.default_rng(0))
    assert worker.act("Looking.\nplanner says: put some mug on shelf.") == "go to shelf 1"


def test_a_worker_looks_again_where_somebody_else_was(tmp_path):
    env = team(tmp_path, room(), num_agents=2)
    worker = env.expert("worker_1", env.observe("worker_1"), np.random.default_rng(0))
    turns = [
        ("go to shelf 1", "go to drawer 1"),
        ("go to drawer 1", "open drawer 1"),
        ("open drawer 1", "look"),  # it is open already
        ("examine drawer 1", "take mug 2 from drawer 1"),
        ("take mug 2 from drawer 1", "close drawer 1"),  # it is in another hand, and the door is closed now
        ("examine drawer 1", "look"),
        ("open drawer 1", "look"),
        ("go to table 1", "look"),
        ("take mug 1 from table 1", "look"),
        ("go to shelf 1", "look"),
        ("move mug 1 to shelf 1", None),
    ]
    for expected, interference in turns:
        assert worker.act(env.observe("worker_1")) == expected
        env.step(expected)
        if interference is not None:
            env.step(interference)
    assert env.infos["worker_1"]["won"]
