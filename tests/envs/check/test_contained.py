"""The check survives what an environment does to its process, and says so about the rule it happened in."""

from dataclasses import replace

import pytest

from agentgym_rft.envs.check.contained import check_report
from agentgym_rft.envs.check.run import RULES
from agentgym_rft.envs.check.subject import CheckSettings
from agentgym_rft.errors import ConfigError, RegistryError
from tests.envs.counter_env import CounterEnv

FEW = CheckSettings(num_episodes=20, num_instances=2)
SHORT = replace(FEW, timeout_s=2.0)
PLANTED = "tests.envs.check.planted_faults"
COUNTER = f"{CounterEnv.__module__}:CounterEnv"


@pytest.mark.parametrize(
    ("name", "rule", "sentence"),
    [
        ("SleepsForEver", "step_gives_five_values", "the environment was stopped after 2 s: it hangs, or is too slow"),
        ("SleepsInItsFirstReset", "can_be_closed_twice", "the environment was stopped after 2 s: it hangs,"),
        (
            "ExitsTheProcess",
            "step_gives_five_values",
            "the environment took its process with it, which ended with exit",
        ),
        ("KillsTheProcess", "step_gives_five_values", "the environment took its process with it, which was killed by"),
        ("EndsPython", "step_gives_five_values", "While checking 'step gives five values': SystemExit: 3"),
        ("NanReward", "step_gives_five_values", "reward is nan, expected a finite number."),
    ],
)
def test_an_environment_that_hangs_or_ends_its_process_breaks_one_rule(name, rule, sentence):
    results = list(check_report(f"{PLANTED}:{name}", settings=SHORT))
    assert [result.name for result in results] == [rule.__name__ for rule in RULES]
    broken = [result for result in results if result.outcome == "failed"]
    assert [result.name for result in broken] == [rule]
    assert broken[0].sentence.startswith(sentence)
    following = results[results.index(broken[0]) + 1 :]
    assert {result.outcome for result in following} == {"skipped"}


def test_a_rule_that_is_not_basic_leaves_the_others_to_be_checked():
    results = {result.name: result for result in check_report(f"{PLANTED}:ExitsOnEmptyText", settings=FEW)}
    assert [name for name, result in results.items() if result.outcome != "ok"] == ["any_text_is_an_action"]
    assert results["any_text_is_an_action"].sentence.endswith("which ended with exit code 7.")


def test_every_rule_of_a_good_environment_is_ok_with_options():
    results = list(check_report(COUNTER, {"goal": 2}, split="valid_seen", settings=FEW))
    assert {result.outcome for result in results} == {"ok"}
    notes = {result.name: result.sentence for result in results}
    assert notes["lists_its_tasks"] == "2 tasks in valid_seen"
    assert notes["episodes_leave_nothing_behind"] == "20 episodes"


def test_a_wrong_name_or_option_is_the_users_error_not_the_environments():
    with pytest.raises(RegistryError, match="there is no module 'no_such_module_1'"):
        list(check_report("no_such_module_1:Env", settings=FEW))
    with pytest.raises(ConfigError, match=r"has no option 'gaol'\. Did you mean 'goal'\?"):
        list(check_report(COUNTER, {"gaol": 2}, settings=FEW))
