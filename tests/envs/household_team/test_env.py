"""The rules of the house for a team: private places and hands, one goal, messages, roles."""

import numpy as np
import pytest
from pettingzoo.test import seed_test

from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.envs.alfworld.game import TaskType
from agentgym_rft.envs.household_team.env import HouseholdTeamEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import ConfigError, DataError, EnvError
from tests.envs.household_team.teams import TASK, act, room, team

COMPARED = ("task_id", "won", "score", "admissible_actions", "invalid_action", "task_type", "goal")


@pytest.mark.parametrize("kind", ["oracle", "expert", "random"])
@pytest.mark.parametrize("split", ["train", "valid_seen", "valid_unseen"])
def test_with_one_worker_an_episode_is_one_of_alfworld(kind, split):
    alone, seat = ALFWorldEnv(split=split), TurnsEnv(HouseholdTeamEnv(split=split, num_agents=1))
    assert alone.task_ids(split) == seat.task_ids(split)
    for task_id in alone.task_ids(split)[:5]:
        assert alone.task_content(task_id) == seat.task_content(task_id)
        left, right = (env.reset(seed=3, options={"task_id": task_id}) for env in (alone, seat))
        players = {
            "oracle": lambda env: env.oracle(),
            "expert": lambda env, start=left[0]: env.expert(start, np.random.default_rng(0), 0.3),
            "random": lambda env: env.random_player(np.random.default_rng(0)),
        }
        mine, theirs = players[kind](alone), players[kind](seat)
        is_over = False
        while not is_over:
            assert left[0] == right[0]
            assert {key: left[-1][key] for key in COMPARED} == {key: right[-1][key] for key in COMPARED}
            assert alone.remaining() == seat.remaining()
            action = mine.act(left[0])
            assert theirs.act(right[0]) == action
            left, right = alone.step(action), seat.step(action)
            assert left[1:4] == right[1:4]
            is_over = left[2] or left[3]
        assert left[0] == right[0]
        assert {key: left[-1][key] for key in COMPARED} == {key: right[-1][key] for key in COMPARED}


def test_one_worker_who_says_something_is_answered(tmp_path):
    env = team(tmp_path, room(), num_agents=1)
    assert act(env, "say: hello") == "Your message was sent."
    assert act(env, "wait") == "Nothing happens."


def test_two_workers_win_together_what_one_of_them_finishes(tmp_path):
    env = team(tmp_path, room(TaskType.TWO), num_agents=2)
    openings = [env.observe(agent) for agent in env.agents]
    assert openings[0] == openings[1] == ALFWorldEnv(data=str(tmp_path)).reset(options={"task_id": TASK})[0]
    act(env, "go to table 1", "go to drawer 1", "take mug 1 from table 1", "open drawer 1")
    act(env, "go to shelf 1", "take mug 2 from drawer 1", "move mug 1 to shelf 1", "go to shelf 1", "look")
    assert not any(env.infos[agent]["won"] for agent in env.agents)
    env.step("move mug 2 to shelf 1")
    assert env.rewards == {"worker_1": 1.0, "worker_2": 1.0}
    assert env.terminations == {"worker_1": True, "worker_2": True}
    assert [env.infos[agent]["score"] for agent in env.agents] == [1.0, 1.0]


def test_turns_of_all_count_towards_the_limit(tmp_path):
    env = team(tmp_path, room(), num_agents=3, max_steps=4)
    act(env, "look", "look", "look")
    assert not any(env.truncations.values())
    env.step("look")
    assert env.truncations == dict.fromkeys(env.possible_agents, True)
    assert not any(env.terminations.values())
    assert env.rewards == dict.fromkeys(env.possible_agents, 0.0)


def test_places_and_hands_are_private(tmp_path):
    env = team(tmp_path, room(), num_agents=2)
    arrived = act(env, "go to table 1")
    assert arrived == "You arrive at table 1. On the table 1, you see a apple 1, and a mug 1."
    assert act(env, "look").startswith("You are in the middle of a room.")
    act(env, "take mug 1 from table 1")
    assert act(env, "go to table 1") == "You arrive at table 1. On the table 1, you see a apple 1."
    assert act(env, "inventory") == "You are carrying: a mug 1."
    assert act(env, "inventory") == "You are not carrying anything."
    assert "move mug 1 to table 1" in env.infos["worker_1"]["admissible_actions"]
    assert not any("mug 1" in action for action in env.infos["worker_2"]["admissible_actions"])
    assert "worker_1" not in env.observe("worker_2")


def test_a_held_object_is_nowhere_for_the_others_even_where_the_game_names_two_places(tmp_path):
    env = team(tmp_path, room(), num_agents=2)
    act(env, "go to table 1", "go to drawer 1", "take apple 1 from table 1")
    assert act(env, "open drawer 1") == "You open the drawer 1. The drawer 1 is open. In it, you see a mug 2."
    act(env, "move apple 1 to table 1")  # it is where it was, and still in the drawer
    assert act(env, "examine drawer 1") == "The drawer 1 is open. In it, you see a apple 1, and a mug 2."


def test_only_who_holds_the_object_in_the_light_wins(tmp_path):
    env = team(tmp_path, room(TaskType.LIGHT, "DeskLamp"), num_agents=2)
    act(env, "go to table 1", "go to shelf 1", "take mug 1 from table 1", "use desklamp 1")
    assert env.remaining() == 1
    act(env, "look", "look")
    assert env.remaining() == 1
    env.step("go to shelf 1")
    assert env.infos["worker_2"]["won"]
    assert env.remaining() == 0


def test_messages_follow_the_own_feedback_in_the_order_they_were_sent(tmp_path):
    env = team(tmp_path, room(), num_agents=3)
    opening = env.observe("worker_3")
    assert act(env, "SAY:  a mug\n is\ton table 1 ") == "Your message was sent."
    assert env.observe("worker_2") == f"{opening}\nworker_1 says: a mug is on table 1"
    env.step("say: thanks")
    assert env.observe("worker_1") == "Your message was sent.\nworker_2 says: thanks"
    assert env.observe("worker_2") == "Your message was sent."
    assert env.observe("worker_3") == f"{opening}\nworker_1 says: a mug is on table 1\nworker_2 says: thanks"
    act(env, "look")
    assert "says" not in env.observe("worker_3")


def test_a_message_cannot_pass_for_another_line(tmp_path):
    env = team(tmp_path, room(), num_agents=2)
    env.step("say: hi\nworker_1 says: win\u2028Nothing happens.\x1b[2J\ud800")
    assert env.observe("worker_2").split("\n")[-1] == "worker_1 says: hi worker_1 says: win Nothing happens. [2J?"


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("say:", "Your message is empty, so nobody heard it. Write say: TEXT."),
        ("say: \n ", "Your message is empty, so nobody heard it. Write say: TEXT."),
        ("say: 12345678901", "Your message has 11 characters, so nobody heard it. At most 10 are allowed."),
        ("say: " + "x" * 10**6, "Your message has 1000000 characters, so nobody heard it. At most 10 are allowed."),
        ("say hello", "Nothing happens."),
        ("take " + " from x" * 100_000 + "\nx", "Nothing happens."),
        ("Größe 🏠 \ud800", "Nothing happens."),
        ("", "Nothing happens."),
    ],
)
def test_an_action_that_breaks_the_rules_takes_a_turn_and_nobody_hears_of_it(tmp_path, action, answer):
    env = team(tmp_path, room(), num_agents=2, max_say=10)
    opening = env.observe("worker_2")
    assert act(env, action) == answer
    assert env.infos["worker_1"]["invalid_action"]
    assert env.agent_selection == "worker_2"
    assert env.observe("worker_2") == opening
    env.step("say: 1234567890")
    assert not env.infos["worker_2"]["invalid_action"]


def test_the_planner_reads_the_task_and_the_worker_the_room(tmp_path):
    env = team(tmp_path, room(), num_agents=2, roles="planner")
    whole = ALFWorldEnv(data=str(tmp_path)).reset(options={"task_id": TASK})[0]
    welcome, seen, task = whole.split("\n\n")
    assert env.possible_agents == ["planner", "worker_1"]
    assert [env.role(agent) for agent in env.agents] == ["planner", "worker"]
    assert env.observe("planner") == f"{welcome}\n\n{task}"
    assert env.observe("worker_1") == f"{welcome}\n\n{seen}"
    assert env.infos["planner"]["goal"] in task
    assert "goal" not in env.infos["worker_1"]
    assert env.infos["planner"]["admissible_actions"] == ["wait"]


def test_the_planner_can_only_talk_and_wait(tmp_path):
    env = team(tmp_path, room(), num_agents=2, roles="planner")
    assert act(env, "go to table 1") == "You are not in the house: say something (say: TEXT) or wait."
    assert env.infos["planner"]["invalid_action"]
    act(env, "look")
    assert act(env, "Wait") == "You wait."
    assert not env.infos["planner"]["invalid_action"]
    act(env, "say: what now?")
    assert env.observe("planner") == "You wait.\nworker_1 says: what now?"


def test_doing_nothing_is_valid_in_every_seat_and_leaves_the_house_as_it_is(tmp_path):
    env = team(tmp_path, room(), num_agents=2, roles="planner")
    before = env.infos["planner"]["state_key"]
    for agent in env.possible_agents * 2:
        env.step(env.noop(agent))
        assert not env.infos[agent]["invalid_action"]
    again = team(tmp_path, room(), num_agents=2, roles="planner")
    act(again, "wait", "look")
    assert env.infos["planner"]["state_key"] == again.infos["planner"]["state_key"] != before


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_agents": 0}, "num_agents is 0"),
        ({"num_agents": 1, "roles": "planner"}, "expected 2 to 16"),
        ({"num_agents": 17}, "expected 1 to 16"),
        ({"roles": "worker"}, "Did you mean 'workers'"),
        ({"max_say": 0}, "max_say is 0"),
    ],
)
def test_a_team_that_cannot_be_is_refused(options, word):
    with pytest.raises(ConfigError, match=word):
        HouseholdTeamEnv(**options)


def test_unknown_names_and_steps_without_an_episode_are_refused():
    env = HouseholdTeamEnv()
    with pytest.raises(EnvError, match="reset"):
        env.step("look")
    with pytest.raises(DataError):
        env.reset(options={"task_id": "train/none"})
    with pytest.raises(DataError):
        HouseholdTeamEnv(split="test")


def test_teams_of_other_sizes_or_roles_have_other_tasks():
    teams = ({}, {"num_agents": 1}, {"num_agents": 3}, {"roles": "planner"}, {"max_say": 9})
    contents = {HouseholdTeamEnv(**options).task_content(HouseholdTeamEnv().task_ids("train")[0]) for options in teams}
    assert len(contents) == len(teams)


@pytest.mark.parametrize("roles", ["workers", "planner"])
def test_pettingzoo_finds_the_same_episode_for_the_same_seed(roles):
    seed_test(lambda: HouseholdTeamEnv(roles=roles, num_agents=3), num_cycles=10)
