from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from agentgym_rft.core import StopReason, Trajectory
from agentgym_rft.errors import WorkersError
from agentgym_rft.rollouts.accounting import Account, check, problems, still_running


def played(name: str, stop: StopReason = StopReason.SUCCESS, **more: object) -> Trajectory:
    return Trajectory("t", "g", name, (), stop, **more)


LOST = played("b", StopReason.ENV_ERROR, info={"error": {"type": "WorkerLost"}})


def test_an_account_that_adds_up_has_no_problems():
    faults = {"worker_lost": 2, "worker_restarted": 2, "episode_replayed": 1, "episode_given_up": 1}
    account = Account(["a", "b"], [LOST, played("a", rewards={"env": 1.0})], faults)
    assert problems(account) == []
    check(account)


@pytest.mark.parametrize(
    ("account", "problem"),
    [
        (Account(["a"], [], {}), "Episode 'a' never came back."),
        (Account(["a"], [played("a"), played("a")], {}), "Episode 'a' came back 2 times."),
        (Account([], [played("a")], {}), "Nobody asked for episode 'a'."),
        (Account(["a", "a"], [played("a")], {}), "Episode 'a' was asked for 2 times."),
        (Account(["b"], [LOST], {"worker_lost": 1}), "1 episodes ended as WorkerLost, but 0 episode_given_up"),
        (Account([], [], {"episode_replayed": 2}), "2 episode_replayed were counted, but none of worker_lost"),
        (Account([], [], {"request_repeated": 1}), "1 request_repeated were counted, but none of replica_lost"),
        (Account([], [], {"worker_lost": 1, "worker_restarted": 2}), "2 workers were restarted, but only 1 were lost"),
        (Account(["a"], [played("a", StopReason.TIMEOUT)], {}), "Episode 'a' is an error without a type."),
        (
            Account(["a"], [played("a", StopReason.TIMEOUT, rewards={"env": 0.0}, info={"error": {"type": "T"}})], {}),
            "Episode 'a' is an error with rewards.",
        ),
        (Account([], [], {}, [os.getpid()]), f"Process {os.getpid()} still runs."),
    ],
    ids=lambda value: "",
)
def test_what_does_not_add_up_is_said(account, problem):
    assert any(found.startswith(problem) for found in problems(account, patience_s=0))
    with pytest.raises(WorkersError, match=re.escape(problem)):
        check(account, patience_s=0)


def test_a_process_that_ended_does_not_run_even_before_it_was_waited_for():
    process = subprocess.Popen([sys.executable, "-c", ""])
    assert still_running([process.pid], 30) == []
    process.wait()
