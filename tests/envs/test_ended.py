"""Environments that do not close."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque

import pytest

from agentgym_rft.envs import ended
from agentgym_rft.envs.process import worker
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.process.pool import Processes
from tests.envs.counter_env import CounterEnv

BREAKING = "tests.envs.breaking_env:BreakingEnv"


class Closing(CounterEnv):
    """Notes the thread in which it is closed, and does something there."""

    def __init__(self, deed=lambda: None):
        super().__init__()
        self.deed, self.thread = deed, None

    def close(self):
        self.thread = threading.current_thread()
        self.deed()


def wait_for_ever():
    threading.Event().wait()


def try_for_ever():
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(ended, "CLOSE_S", 0.1)
    monkeypatch.setattr(ended, "CLOSE_ALL_S", 0.15)
    monkeypatch.setattr(worker, "CLOSE_TIMEOUT_S", 0.2)


@pytest.mark.parametrize("deed", [wait_for_ever, try_for_ever])
def test_an_environment_that_does_not_close_is_a_warning(soon, caplog, deed):
    before = signal.getsignal(signal.SIGALRM)
    ended.close_env(Closing(deed))
    assert caplog.messages == ["An environment could not be closed: TimeoutError: close took longer than 0.1 s"]
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_so_it_is_in_other_threads(soon, caplog):
    thread = threading.Thread(target=ended.close_env, args=(Closing(wait_for_ever),))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert "close took longer than 0.1 s" in caplog.text


def test_an_environment_is_closed_in_the_main_thread_which_most_likely_made_it(caplog):
    env = Closing()
    ended.close_env(env)
    assert env.thread is threading.main_thread()
    assert caplog.messages == []


def test_a_close_that_raises_is_a_warning_in_any_thread(caplog):
    def fail():
        raise RuntimeError("the door is stuck")

    ended.close_env(Closing(fail))
    thread = threading.Thread(target=ended.close_env, args=(Closing(fail),))
    thread.start()
    thread.join()
    assert caplog.messages == ["An environment could not be closed: RuntimeError: the door is stuck"] * 2


def test_all_together_have_a_deadline_and_processes_that_are_left_are_killed(soon, caplog):
    there = ProcessEnv(BREAKING)
    never = Closing()
    ended.close_envs(deque([there, never, Closing(wait_for_ever), Closing(wait_for_ever)]))
    assert caplog.messages[-1] == "2 environments were not closed: others took longer than 0.15 s."
    assert never.thread is None
    assert there.pid is None


def test_one_of_several_in_a_process_that_does_not_close_ends_the_process(monkeypatch):
    monkeypatch.setattr("agentgym_rft.envs.process.pool.CLOSE_TIMEOUT_S", 0.2)
    processes = Processes()
    first, second = (ProcessEnv(BREAKING, {"fault": "sleep", "when": "close"}, processes=processes) for _ in range(2))
    with pytest.raises(TimeoutError, match="'drop'"):
        first.close()
    assert processes.pids == []
    second.close()


def test_a_process_that_does_not_close_is_a_warning(soon, caplog):
    ProcessEnv(BREAKING, {"fault": "sleep", "when": "close"}).close()
    assert "'close' of environment 'tests.envs.breaking_env:BreakingEnv' took longer than 0.2 s" in caplog.text
