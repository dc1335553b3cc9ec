"""Every fault planted into a good environment of several agents is found, by the rule that is about it."""

import pytest

from agentgym_rft.envs import check_env
from agentgym_rft.envs.check.contained import check_report
from agentgym_rft.envs.check.multi_agent import MULTI_RULES
from agentgym_rft.envs.check.run import RULES, check_rule
from agentgym_rft.envs.check.subject import CheckSettings, NamedEnv, Subject
from agentgym_rft.errors import EnvContractError
from tests.counting_team import CountingTeam
from tests.envs.check import planted_team_faults as planted
from tests.envs.counter_env import CounterEnv

FEW = CheckSettings(num_episodes=2, num_instances=2)
APART = ("other_processes_play_the_same",)  # starts a process
FAULTS = {
    "NumbersIn": ("is_a_text_env", "action_space of 'seat_0' is Discrete(3), expected a Text space such as AnyText()."),
    "RewardAtReset": (
        "reset_gives_observation_and_info",
        "the reward of 'seat_1' is nan, expected a finite number.",
    ),
    "ScoresBeyondOne": (
        "reset_gives_observation_and_info",
        "infos['seat_1']['score'] is -0.5, expected a number from 0 to 1.",
    ),
    "TellsNumbers": (
        "reset_gives_observation_and_info",
        "the observation of reset for 'seat_1' is a int, expected str.",
    ),
    "ShowsInstance": (
        "same_seed_gives_the_same_episode",
        "a reset with the same seed in another instance differs: observations {",
    ),
    "LosesSums": (
        "snapshots_continue_the_episode",
        "restore in another instance does not give the observation and info of the snapshot: cumulative {",
    ),
    "ChangesOrder": ("agents_only_leave", "agents is ['seat_1', 'seat_0'], expected ['seat_0', 'seat_1']"),
    "ChangesRoles": ("roles_are_stable", "the role of 'seat_0' was 'beginner' and is 'counter'; roles stay."),
    "ForgetsTheSum": ("passes_the_api_test_of_pettingzoo", "PettingZoo's api_test fails: reward returned by last is"),
    "DiffersForOneSeed": ("passes_the_seed_test_of_pettingzoo", "PettingZoo's seed_test fails: Incorrect info."),
    "AnyoneActs": ("turns_out_of_place_are_refused", "'seat_1' may act in the turn of 'seat_0', expected EnvError."),
    "ReadOnce": ("observing_changes_nothing", "what 'seat_1' observes changes when somebody observes."),
    "LosesTurn": (
        "snapshots_keep_the_books",
        "books differ after restore and the step of one that is out: selected ",
    ),
}


def first_broken(env):
    """Name and sentence of the first rule that is broken."""
    subject = Subject(NamedEnv(f"{env.__module__}:{env.__name__}"), settings=FEW)
    for rule in (*RULES, *MULTI_RULES):
        if rule.__name__ in APART:
            continue
        try:
            check_rule(rule, subject)
        except EnvContractError as error:
            return rule.__name__, str(error)
    return None, None


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_rule_with_its_sentence(name):
    broken, said = first_broken(vars(planted)[name])
    assert (broken, said[: len(FAULTS[name][1])]) == FAULTS[name]


def test_every_rule_about_several_agents_alone_has_a_planted_fault():
    assert {rule.__name__ for rule in MULTI_RULES} <= {rule for rule, _ in FAULTS.values()}


def test_every_rule_holds_for_a_good_environment_by_class_and_by_instance():
    names = [rule.__name__ for rule in (*RULES, *MULTI_RULES)]
    assert check_env(CountingTeam, settings=FEW) == names
    env = CountingTeam()
    env.reset(seed=0)
    assert check_env(env, settings=FEW) == names
    assert env.count == 0


def test_the_rules_about_several_agents_are_left_out_where_there_is_one():
    assert check_env(CounterEnv, settings=FEW) == [rule.__name__ for rule in RULES]
    with pytest.raises(EnvContractError, match="CounterEnv has one agent; the rules about several do not apply"):
        check_rule(MULTI_RULES[0], Subject(CounterEnv))


def test_a_report_names_them_where_they_apply():
    results = list(check_report("tests.counting_team:CountingTeam", settings=FEW))
    assert [result.name for result in results] == [rule.__name__ for rule in (*RULES, *MULTI_RULES)]
    assert {result.outcome for result in results} == {"ok"}
    assert len(list(check_report("tests.envs.counter_env:CounterEnv", settings=FEW))) == len(RULES)
