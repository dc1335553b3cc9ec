"""An environment in a process of its own plays as it does without one, and its faults stay there."""

import asyncio
import copy
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from agentgym_rft import registry
from agentgym_rft.envs.check import rules, runs
from agentgym_rft.envs.check.subject import Subject
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.errors import ConfigError, DataError, EnvError, EnvTimeoutError, RegistryError
from tests.envs.breaking_env import BreakingEnv

BREAKING = "tests.envs.breaking_env:BreakingEnv"
TASK = {"task_id": "train-1"}


@pytest.fixture
def make():
    """Makes environments in processes, and looks afterwards that none is left."""
    envs = []

    def make_env(timeout_s=None, recycle_after=None, **options):
        envs.append(ProcessEnv(BREAKING, options, timeout_s=timeout_s, recycle_after=recycle_after))
        return envs[-1]

    yield make_env
    for env in envs:
        env.close()
        assert env.pid is None


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def episode(env, seed=None):
    """Starts and steps of an episode that draws random numbers."""
    return [env.reset(seed=seed), *(env.step(action) for action in ("up", "down", "nothing", "up", "up"))]


def test_it_plays_as_the_environment_does(make):
    there, here = make(goal=4), BreakingEnv(goal=4)
    assert [episode(there, seed=3), episode(there), episode(there)] == [
        episode(here, seed=3),
        episode(here),
        episode(here),
    ]
    assert there.task_ids("train") == here.task_ids("train")
    assert there.task_content("train-1") == here.task_content("train-1")
    assert (there.splits, there.can_snapshot, there.has_lessons) == (("train", "valid_seen"), True, False)
    assert there.action_space == here.action_space


def test_snapshots_and_the_rest_of_the_contract_are_forwarded(make):
    env, other = make(), make()
    env.reset(options=TASK)
    env.step("up")
    assert env.remaining() == 2
    snapshot = env.snapshot()
    assert snapshot == b'["train-1", 1, 1, false]'
    assert other.restore(snapshot)[1]["state_key"] == "train-1 1"
    assert other.step("up")[4]["state_key"] == "train-1 2"


def test_players_live_beside_their_environment(make):
    env = make()
    start, _ = env.reset(options=TASK)
    oracle, expert = env.oracle(), env.expert(start, np.random.default_rng(0), noise=1.0)
    assert (oracle.act(start), expert.act(start)) == ("up", "down")
    env.reset(options=TASK)
    with pytest.raises(EnvError, match="episode that is over"):
        oracle.act(start)


def test_a_registered_environment_is_found_in_the_process():
    registry.register_env("test/Breaking-v0", BreakingEnv, kwargs={"goal": 2})
    env = ProcessEnv("breaking", {"fault": ""})
    env.reset(options=TASK)
    assert env.remaining() == 2
    env.close()


def test_the_contract_holds_through_a_process():
    envs = []

    def make_env():
        envs.append(ProcessEnv("tests.envs.counter_env:CounterEnv"))
        return envs[-1]

    subject = Subject(make_env, "train")
    for rule in (
        rules.lists_its_tasks,
        rules.unknown_names_are_refused,
        runs.same_seed_gives_the_same_episode,
        runs.returned_info_is_a_copy,
        rules.can_be_closed_twice,
    ):
        rule(subject)
    for env in envs:
        env.close()


def test_own_errors_are_raised_as_they_are(make):
    env = make()
    with pytest.raises(DataError, match=r"^There is no split 'test'\.$"):
        env.task_ids("test")
    with pytest.raises(EnvError, match="The episode is over"):
        env.step("up")
    env.reset()
    with pytest.raises(DataError, match=r"^no such counter$"):  # the nearest class that is ours
        env.step("raise own")


def test_other_errors_name_their_type_and_place(make):
    env = make()
    env.reset(options=TASK)
    with pytest.raises(EnvError) as caught:
        env.step("raise")
    assert str(caught.value) == "ValueError: the counter is stuck"
    assert "raise_value_error" in caught.value.__notes__[0]
    assert env.step("up")[4]["score"] == pytest.approx(1 / 3)  # the episode goes on: nothing was lost


def test_a_raise_in_reset_leaves_the_process_usable(make):
    env = make(fault="raise")
    pid = env.pid
    with pytest.raises(EnvError, match="ValueError"):
        env.reset()
    assert env.task_ids("train")
    assert env.pid == pid


def test_an_exit_of_the_interpreter_is_an_error_like_others(make):
    env = make()
    env.reset()
    with pytest.raises(EnvError, match="SystemExit: 4"):
        env.step("exit")


def test_errors_while_it_is_made_are_raised_where_it_is_made():
    with pytest.raises(EnvError, match="ValueError: the counter is stuck"):
        ProcessEnv(BREAKING, {"fault": "raise", "when": "make"})
    with pytest.raises(ConfigError, match=r"no option 'gaol'.*'goal'"):
        ProcessEnv(BREAKING, {"gaol": 3})
    with pytest.raises(RegistryError, match="not registered"):
        ProcessEnv("brake")
    with pytest.raises(ConfigError, match="cannot be sent"):
        ProcessEnv(BREAKING, {"goal": lambda: 3})


@pytest.mark.parametrize(
    ("fault", "ending"), [("die", "ended with exit code 3"), ("kill", "was killed by SIGKILL"), ("fork", "exit code 5")]
)
def test_a_death_is_an_error_and_the_next_reset_starts_afresh(make, fault, ending):
    env = make()
    env.reset(seed=5)
    with pytest.raises(EnvError, match=f"{ending}.*during 'step'"):
        env.step(fault)
    assert env.pid is None
    with pytest.raises(EnvError, match="call reset before step"):
        env.step("up")
    alone = BreakingEnv()
    alone.reset(seed=5)
    assert env.reset() == alone.reset()  # the generator goes on where it was


def test_a_process_that_is_ended_twice_leaves_the_event_loop_to_the_next(make):
    """Its socket is closed once the loop has let go of it: the next one may get the same number."""
    first, second = make(), make()

    async def play():
        await first.ask("reset", None, TASK)
        ended = first._worker
        second.close()
        ended.kill()
        ended.kill()
        return await asyncio.wait_for(second.ask("reset", None, TASK), 60)

    assert asyncio.run(play())[1]["task_id"] == "train-1"


def test_a_death_between_calls_is_noticed_by_the_next(make):
    env = make()
    env.reset()
    os.kill(env.pid, signal.SIGKILL)
    with pytest.raises(EnvError, match="was killed by SIGKILL"):
        env.step("up")
    env.reset(options=TASK)
    assert env.step("up")[4]["task_id"] == "train-1"


@pytest.mark.parametrize("fault", ["sleep", "spin"])
def test_a_hang_is_a_timeout_and_the_next_reset_starts_afresh(make, fault):
    env = make(timeout_s=5.0)
    env.reset(options=TASK)
    env._worker._timeout_s = 0.2  # the next process has the longer deadline again
    with pytest.raises(TimeoutError, match=r"'step' of environment .* took longer than 0.2 s"):
        env.step(fault)
    assert env.pid is None
    assert env.reset(options=TASK)[1]["task_id"] == "train-1"


def test_a_hang_while_it_is_made_or_closed_ends(make):
    with pytest.raises(EnvTimeoutError, match="'make'"):
        ProcessEnv(BREAKING, {"fault": "sleep", "when": "make"}, timeout_s=0.5)
    env = make(fault="sleep", when="close", timeout_s=2.0)
    env._worker._timeout_s = 0.2
    pid = env.pid
    env.close()
    assert not is_running(pid)


def test_an_error_in_close_is_raised_after_the_process_has_ended(make):
    env = make(fault="raise", when="close")
    pid = env.pid
    with pytest.raises(EnvError, match="ValueError"):
        env.close()
    assert not is_running(pid)
    env.close()


def test_printing_breaks_nothing_and_goes_to_the_standard_error(make, capfd):
    env = make()
    env.reset(options=TASK)
    assert env.step("print")[0].startswith("train-1: the counter shows 0.")
    env.close()  # flushes the buffers of the C library
    captured = capfd.readouterr()
    assert captured.out == ""
    for text in ("print", "descriptor 1", "the C library", "another process"):
        assert text in captured.err


def test_what_cannot_be_sent_is_an_error(make):
    env = make()
    env.reset()
    with pytest.raises(EnvError, match="cannot be sent: TypeError"):
        env.step("unpicklable")


def test_any_text_and_a_megabyte_pass_both_ways(make):
    env = make()
    env.reset()
    for text in ("", "\x00\ud800\u202e", "a" * 2**20):
        assert env.step(text)[4]["invalid_action"] is True


def test_recycling_replaces_the_process_and_nothing_else(make):
    env, alone = make(recycle_after=2), BreakingEnv()
    pids, starts = [], [env.reset(seed=1)]
    pids.append(env.pid)
    for _ in range(4):
        starts.append(env.reset())
        pids.append(env.pid)
    assert [pids[0]] * 2 == pids[:2]
    assert len(set(pids)) == 3
    assert starts == [alone.reset(seed=1), *(alone.reset() for _ in range(4))]
    assert not any(is_running(pid) for pid in set(pids[:-1]))


def test_a_copy_has_a_process_of_its_own(make):
    env = make(goal=7)
    env.reset(seed=2)
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert twin.pid is None
        twin.reset(options=TASK)
        assert twin.remaining() == 7
        assert twin.pid not in (None, env.pid)
        twin.close()


def test_closing_cuts_off_a_call_of_another_thread(make):
    env = make()
    env.reset()
    caught = []

    def step():
        try:
            env.step("sleep")
        except EnvError as error:
            caught.append(str(error))

    thread = threading.Thread(target=step)
    thread.start()
    while not env._worker._lock.locked():
        thread.join(0.01)
    env.close()
    thread.join(5)
    assert "was killed by SIGKILL" in caught[0]


def test_an_environment_that_is_forgotten_leaves_no_process():
    env = ProcessEnv(BREAKING)
    pid = env.pid
    del env
    assert not is_running(pid)


@pytest.mark.parametrize("last_words", ["os._exit(0)", "os.kill(os.getpid(), 9)", "sys.exit()"])
def test_a_process_does_not_outlive_its_parent(last_words):
    program = f"""
import os, sys, threading
from agentgym_rft.envs.process.env import ProcessEnv
env = ProcessEnv({BREAKING!r})
env.reset()
threading.Thread(target=env.step, args=("sleep",), daemon=True).start()
while not env._worker._lock.locked(): pass
print(env.pid, flush=True)
{last_words}
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # The environment's process has our pipe as its standard error: `run` returns when it, too, has ended.
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=30)
    assert int(done.stdout) > 0, done.stderr


def test_one_that_holds_the_interpreter_s_lock_does_not_outlive_a_killed_parent():
    program = f"from agentgym_rft.envs.process.env import *; e = ProcessEnv({BREAKING!r}); e.reset(); e.step('hold')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE) as driver:
        assert driver.stderr.readline() == b"holding\n"
        driver.kill()
        driver.communicate(timeout=10)  # returns when all have ended that have our pipe


def test_a_fork_that_comes_back_answers_nothing(make):
    env = make()
    env.reset(options=TASK)
    shown = [env.step(action)[0].split(".")[0] for action in ("up", "fork and exit", "up")]
    assert shown == [f"train-1: the counter shows {count}" for count in (1, 1, 2)]


def test_the_process_imports_no_torch():
    env = ProcessEnv("tests.envs.process.test_env:ModulesEnv")
    names = env.task_ids("train")
    env.close()
    assert "numpy" in names
    assert not {"torch", "transformers", "textworld"} & set(names)


def test_no_file_of_the_working_directory_hides_a_library_there(tmp_path, make, monkeypatch):
    for name in ("json", "socket", "typing"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(7)")
    monkeypatch.chdir(tmp_path)
    make().reset(options=TASK)


def test_the_order_of_sets_can_be_fixed():
    orders = []
    for hash_seed in (1, 1, 2):
        env = ProcessEnv("tests.envs.process.test_env:SetOrderEnv", hash_seed=hash_seed)
        orders.append(env.task_ids("train"))
        env.close()
    assert orders[0] == orders[1] != orders[2]


class SetOrderEnv(BreakingEnv):
    """Its tasks are in the order of a set."""

    def task_ids(self, split):
        return list({f"task-{number}" for number in range(50)})


class ModulesEnv(BreakingEnv):
    """Its tasks are the modules that are loaded."""

    def task_ids(self, split):
        return sorted(sys.modules)
