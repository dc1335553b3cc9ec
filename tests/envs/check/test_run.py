"""Every fault planted into a good environment is found, by the rule that is about it, with its sentence."""

import gymnasium as gym
import pytest

import agentgym_rft
from agentgym_rft.envs import AnyText, TextEnv, check_env
from agentgym_rft.envs.check.run import RULES, check_rule
from agentgym_rft.envs.check.subject import QUICK, CheckSettings, NamedEnv, Subject
from agentgym_rft.errors import EnvContractError
from tests.envs.check import planted_faults as planted
from tests.envs.counter_env import CounterEnv

GLOBAL = "an episode draws from or seeds a global random generator; give the environment its own."
HERE = "tests.envs.check.planted_faults"
FAULTS = {
    "is_a_text_env": {
        "NotATextEnv": f"While checking 'is a text env': RegistryError: '{HERE}:NotATextEnv' is another class",
        "NumbersOut": "observation_space is Discrete(3), expected a Text space such as AnyText().",
    },
    "can_be_closed_twice": {
        "ClosesOnce": "the second close raises OSError: closed already.",
        "CrashesOnReset": "While checking 'can be closed twice': ZeroDivisionError: division by zero",
    },
    "lists_its_splits": {
        "SplitsAsList": "splits is ['train', 'valid_seen'], expected a tuple of names, the one to train on first.",
        "SplitTwice": "splits ('train', 'valid_seen', 'train') names a split twice.",
        "NoTasks": "task_ids('train') is empty.",
    },
    "lists_its_tasks": {
        "TaskTwice": "task_ids('train') names a task twice.",
        "UnstableTasks": "task_ids('train') differs between two instances; a panel must be frozen.",
    },
    "reset_gives_observation_and_info": {
        "ObservationOnly": "reset gives a str, expected (observation, info).",
        "NoStateKey": "the info of reset lacks 'state_key'.",
        "ActionsAsText": "info['admissible_actions'] is not a list of str.",
    },
    "reset_selects_the_task": {"OtherTask": "reset to task 'train-1' started 'train-0'."},
    "step_gives_five_values": {
        "FourValues": "step gives 4 values, expected (observation, reward, terminated, truncated, info).",
        "BytesOut": "the observation of step is a bytes, expected str.",
        "NanReward": "reward is nan, expected a finite number.",
        "IntegerFlag": "terminated is a int, expected bool.",
        "EndsPython": "While checking 'step gives five values': SystemExit: 3",
        "RaisesWithoutText": "While checking 'step gives five values': WithoutText: its message cannot be shown",
    },
    "step_info_has_its_keys": {
        "ScoreInPercent": "info['score'] is 33.3",
        "CountedMeasures": "info['measures'] is {'length': None}, expected finite numbers by name.",
        "TaskIdChanges": "info['task_id'] is 'train-3' in an episode of 'train-0'.",
    },
    "tasks_have_content": {
        "TextContent": "task_content('train-0') is a str, expected bytes.",
        "SameContent": "task_content is the same for two tasks; splits could not be compared.",
    },
    "splits_are_disjoint": {
        "SplitsShareATask": "task 'train-0' is in 'train' and in 'valid_seen'; splits share no task.",
        "SplitsShareContent": "Splits 'valid_seen' and 'valid_unseen' overlap: task 'valid_unseen-0'",
    },
    "unknown_names_are_refused": {
        "AnySplit": "task_ids of an unknown split is not refused, expected DataError.",
        "KeyErrorForTask": "reset to an unknown task raises KeyError, expected DataError.",
    },
    "reset_draws_a_task_by_its_seed": {
        "AlwaysTheFirstTask": "reset draws task 'train-0' for 20 seeds; use np_random.",
        "UnlistedTask": "reset drew task 'train-99', which task_ids lists in no split.",
        "UnseededTask": "resets without a seed, after one with a seed, draw other tasks in another instance;",
        "SeedsAnewEachTime": "reset without a seed draws task 'valid_unseen-1' 20 times; let np_random go on.",
    },
    "same_seed_gives_the_same_episode": {
        "Unrepeatable": "an episode with the same seed and actions in another instance differs: observation ",
    },
    "global_generators_are_left_alone": {"GlobalRandom": GLOBAL, "GlobalSeeding": GLOBAL},
    "the_working_directory_is_left_alone": {
        "ChangesFolder": "an episode changes the working directory; use absolute paths.",
    },
    "the_process_is_left_alone": {
        "TakesSignals": "an episode changes what SIGTERM does; leave signals to the run.",
        "KeepsAThread": "close leaves engine running, for which Python waits at the end; make it a daemon.",
    },
    "instances_do_not_share_state": {
        "SharedRoom": "an instance plays differently while another one is stepped: observation ",
        "SharedCounter": "While checking 'instances do not share state': EnvError: The episode is over; call reset.",
    },
    "action_logs_replay": {
        "WearsOut": "the replay of an action log in a used instance differs: observation ",
        "CarriesOver": "the replay of an action log in a used instance differs: observation ",
    },
    "calls_may_come_from_any_thread": {
        "OneThreadOnly": "a call from another thread raises ProgrammingError: SQLite objects created in a thread",
    },
    "returned_info_is_a_copy": {
        "SharedInfo": "an episode changes when the info it returned is changed: observation ",
    },
    "wins_end_the_episode_with_full_score": {
        "WonButGoesOn": "info['won'] is True but terminated is False; a win ends the episode.",
        "EndsTwice": "terminated and truncated are both True; an episode that ended was not cut short.",
        "HalfAWin": "info['won'] is True but info['score'] is 0.5; a win has score 1.",
    },
    "episodes_end_and_stay_ended": {
        "StepBeforeReset": "a step before the first reset is not refused, expected EnvError.",
        "StepsAfterEnd": "a step after the end is not refused, expected EnvError.",
        "RuntimeErrorAfterEnd": "a step after the end raises RuntimeError, expected EnvError.",
        "NeverEnds": "an episode did not end within 2000 steps; add a step limit.",
    },
    "any_text_is_an_action": {
        "FussyParser": "the action '\\ud800' raises UnicodeEncodeError: ",
        "DigitParser": "the action '²' raises ValueError: ",
        "Echo": "the observation of the action '\\ud800' holds a lone surrogate, which cannot be written to a file;",
        "LongEcho": "the observation of the action '99999999999999999999'... of 5000 characters, of 5040 character",
    },
    "admissible_actions_can_be_said": {
        "BlankAction": "no reply can hold the admissible action ' '.",
        "TwoSpaces": "the admissible action 'go  up' with its white space folded, as in a reply, differs: observation ",
    },
    "state_keys_tell_states_apart": {
        "OneStateKey": "info['state_key'] stays 'train-0' while the score changes; equal keys mean equal states.",
        "StateKeyWithoutTask": "info['state_key'] is '0' at the start of two tasks; put the task in.",
    },
    "snapshots_continue_the_episode": {
        "SnapshotActs": "an episode goes on differently after snapshot was called: observation ",
        "SnapshotAsText": "snapshot gives a str, expected bytes.",
        "ForgetsSteps": "restore in another instance does not give the observation and info of the snapshot: observa",
        "StateOutsideTheSnapshot": "a snapshot restored in another instance continues differently: reward ",
        "HiddenSnapshot": "can_snapshot is False, but snapshot works; set can_snapshot = True.",
    },
    "damaged_snapshots_are_refused": {
        "PickledSnapshot": "snapshot is a pickle, which can run code where it is restored; write JSON instead.",
        "TrustingRestore": "restore of empty bytes raises JSONDecodeError, expected EnvError.",
    },
    "other_processes_play_the_same": {
        "HashOrder": "an episode played in another process differs: observation ",
        "HashedContent": "task_content differs in another process, for one of the first 4 tasks of 'train'.",
        "SnapshotByReference": "While checking 'other processes play the same': EnvError: There is no such snapshot.",
    },
    "episodes_leave_nothing_behind": {
        "LeaksMemory": "each episode keeps ",
        "LeaksFiles": "50 episodes leave 50 open files behind; end them in reset and close.",
    },
    "instances_leave_nothing_behind": {
        "LeaksThreads": "5 instances leave 5 threads behind; end them in reset and close.",
        "LeaksProcesses": "5 instances leave 5 processes behind; end them in reset and close.",
    },
}
PLANTED = [(rule, name, sentence) for rule, faults in FAULTS.items() for name, sentence in faults.items()]


def first_broken(env, settings=QUICK):
    """Name and sentence of the first rule that is broken."""
    subject = Subject(NamedEnv(f"{env.__module__}:{env.__name__}"), settings=settings)
    for rule in RULES:
        try:
            check_rule(rule, subject)
        except EnvContractError as error:
            return rule.__name__, str(error)
    return None, None


@pytest.fixture
def clean_up(monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)  # other processes hash with seeds of their own
    planted.LeaksThreads.done.clear()
    planted.KeepsAThread.done.clear()
    yield
    for stream in planted.LeaksFiles.files:
        stream.close()
    planted.LeaksFiles.files.clear()
    planted.LeaksThreads.done.set()
    planted.KeepsAThread.done.set()
    for process in planted.LeaksProcesses.processes:
        process.kill()
        process.wait()
    planted.LeaksProcesses.processes.clear()


@pytest.mark.usefixtures("clean_up")
@pytest.mark.parametrize(("rule", "name", "sentence"), PLANTED, ids=[name for _, name, _ in PLANTED])
def test_a_planted_fault_is_found_by_its_rule_with_its_sentence(rule, name, sentence):
    broken, said = first_broken(vars(planted)[name])
    assert broken == rule
    assert said.startswith(sentence)


def test_the_checker_raises_the_sentence_of_the_first_broken_rule():
    with pytest.raises(EnvContractError, match=r"^terminated is a int, expected bool\.$"):
        check_env(planted.IntegerFlag)


def test_every_rule_but_the_one_about_time_has_a_planted_fault():
    assert {rule.__name__ for rule in RULES} == {*FAULTS, "steps_take_bounded_time"}


def test_a_step_that_takes_longer_than_the_limit_is_named():
    rule, sentence = first_broken(CounterEnv, CheckSettings(num_episodes=1, num_instances=1, max_step_s=1e-9))
    assert rule == "steps_take_bounded_time"
    assert sentence.endswith("µs on average, more than 0.001 µs; make it faster.")


def test_every_rule_holds_for_a_good_environment():
    assert check_env(CounterEnv) == [rule.__name__ for rule in RULES]


def test_an_environment_that_cannot_always_be_made_is_found():
    rule, sentence = first_broken(planted.FailsToBeMade)
    assert sentence == f"While checking '{rule.replace('_', ' ')}': OSError: no port is left"


def test_an_environment_is_checked_by_name_by_function_and_by_instance():
    agentgym_rft.register_env("tests/Checked-v0", CounterEnv)
    for env in ("tests/Checked-v0", lambda: CounterEnv(goal=2), CounterEnv(goal=2), gym.make("tests/Checked-v0")):
        assert len(check_env(env, settings=QUICK)) == len(RULES)


def test_a_checked_instance_is_not_stepped():
    env = CounterEnv()
    env.reset(seed=0)
    env.step("up")
    check_env(env, settings=QUICK)
    assert env.count == 1


def test_other_objects_and_uncopyable_instances_are_refused():
    with pytest.raises(EnvContractError, match="A int is not an environment"):
        check_env(3)
    env = CounterEnv()
    env.stream = (number for number in range(3))
    with pytest.raises(EnvContractError, match="CounterEnv cannot be copied"):
        check_env(env)


def test_any_text_holds_what_a_model_can_write():
    space = AnyText(5)
    assert "大\ud800" in space
    assert "" in space
    assert "123456" not in space
    assert 3 not in space
    assert isinstance(TextEnv.action_space, AnyText)
