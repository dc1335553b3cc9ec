"""Every fault planted into a good environment of several agents is found, by the rule that is about it alone."""

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
    "NumbersIn": ("seats_read_and_write_text", "action_space of 'seat_0' is Discrete(3), expected text."),
    "RewardAtReset": ("rewards_are_finite_numbers", "the reward of 'seat_1' is nan, expected a finite number."),
    "ChangesOrder": ("agents_only_leave", "agents is ['seat_1', 'seat_0'], expected ['seat_0', 'seat_1']"),
    "ChangesRoles": ("roles_are_stable", "the role of 'seat_0' was 'beginner' and is 'counter'; roles stay."),
    "ScoresBeyondOne": ("outcomes_have_scores", "'seat_1' has score -0.5, expected a number from 0 to 1."),
    "ForgetsTheSum": ("passes_the_api_test_of_pettingzoo", "PettingZoo's api_test fails: reward returned by last is"),
    "DiffersForOneSeed": ("passes_the_seed_test_of_pettingzoo", "PettingZoo's seed_test fails: Incorrect info."),
    "AnyoneActs": ("turns_out_of_place_are_refused", "'seat_1' may act in the turn of 'seat_0', expected EnvError."),
    "ReadOnce": ("observing_changes_nothing", "what 'seat_1' observes changes when somebody observes."),
    "ShowsInstance": ("every_seat_plays_the_same_again", "observations differs in another instance with the same seed"),
    "LosesSums": ("snapshots_keep_the_books", "cumulative differs after restore: "),
    "LosesTurn": ("snapshots_keep_the_books", "selected differs after restore and the step of one that is out: "),
}


def broken_rules(env):
    """Names and sentences of all rules that are broken."""
    subject = Subject(NamedEnv(f"{env.__module__}:{env.__name__}"), settings=FEW)
    found = {}
    for rule in (*RULES, *MULTI_RULES):
        if rule.__name__ in APART:
            continue
        try:
            check_rule(rule, subject)
        except EnvContractError as error:
            found[rule.__name__] = str(error)
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_rule_alone_with_its_sentence(name):
    rule, sentence = FAULTS[name]
    found = broken_rules(vars(planted)[name])
    assert list(found) == [rule], found
    assert found[rule].startswith(sentence)


def test_every_rule_about_several_agents_has_a_planted_fault():
    assert {rule.__name__ for rule in MULTI_RULES} == {rule for rule, _ in FAULTS.values()}


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
