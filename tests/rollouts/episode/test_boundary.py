"""Whatever an environment does is data of its episode: it ends neither the run nor looks like success."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import warnings

import numpy as np
import pytest

from agentgym_rft.core import StopReason
from agentgym_rft.envs import ended
from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate
from agentgym_rft.evaluation.players import text_workers
from agentgym_rft.rollouts.episode.boundary import contained
from agentgym_rft.rollouts.episode.players import scripted
from agentgym_rft.rollouts.workers.event_loop import EventLoop
from tests.envs.counted_env import Counted

TASKS = ["valid_unseen-0", "valid_unseen-1", "valid_unseen-2"]


class Mute(Exception):
    """Cannot be turned into text."""

    def __str__(self):
        raise RuntimeError("no text")


def raised(problem):
    raise problem


STEPS = {
    "sys.exit(0)": (lambda answer: sys.exit(0), "The environment raised SystemExit: 0"),
    "CancelledError": (lambda answer: raised(asyncio.CancelledError("x")), "The environment raised CancelledError: x"),
    "GeneratorExit": (lambda answer: raised(GeneratorExit("y")), "The environment raised GeneratorExit: y"),
    "a mute error": (lambda answer: raised(Mute()), "its message cannot be shown"),
}
INFOS = {
    "won as an array": ({"won": np.array([1, 0])}, "won of type ndarray, expected one number"),
    "won as a word": ({"won": "no"}, "won of type str, expected one number"),
    "won as another number": ({"won": 7}, "won=7.0, expected True or False"),
    "score as a list": ({"score": [1.0]}, "score of type list, expected one number"),
    "task_type as an object": ({"task_type": Mute()}, "a task_type of type Mute, expected str"),
    "score as text": ({"score": "1"}, "score of type str, expected one number"),
    "measures without a number": ({"measures": {"a": None}}, "measures['a'] of type NoneType, expected one number"),
    "measures that are not finite": ({"measures": {"a": float("inf")}}, "measures['a'] inf, expected a finite number"),
    "measures without names": ({"measures": {1: 1.0}}, "measures of type dict, expected numbers by name"),
    "measures as a list": ({"measures": [Mute()]}, "measures of type list, expected numbers by name"),
}


class Faulty(Counted):
    """Does something else in the second step of one of its tasks."""

    def __init__(self, change=lambda answer: answer):
        super().__init__()
        self.change = change

    def step(self, action):
        answer = super().step(action)
        return self.change(answer) if (self.task_id, self.num_steps) == (TASKS[1], 2) else answer


def played(make_env, deadline=None):
    workers = text_workers(make_env, scripted("oracle"), max_concurrency=1)
    trajectories = evaluate(workers, EvaluationPlan(TASKS, 0.0, 0, 10, step_timeout_s=deadline))
    workers.close()
    return trajectories


def assert_one_error(trajectories, message):
    assert [t.stop_reason for t in trajectories] == [StopReason.SUCCESS, StopReason.ENV_ERROR, StopReason.SUCCESS]
    assert message in trajectories[1].info["error"]["message"]
    assert not trajectories[1].won


@pytest.mark.parametrize("deadline", [None, 30.0])
@pytest.mark.parametrize("fault", STEPS)
def test_what_a_step_raises_ends_its_episode_alone(fault, deadline):
    change, message = STEPS[fault]
    assert_one_error(played(lambda: Faulty(change), deadline), message)


@pytest.mark.parametrize("fault", INFOS)
def test_what_cannot_be_an_outcome_is_an_error(fault):
    told, message = INFOS[fault]
    assert_one_error(played(lambda: Faulty(lambda answer: (*answer[:4], {**answer[4], **told}))), message)


@pytest.mark.parametrize("kind", [np.bool_, np.float32, np.array, int])
def test_numbers_of_numpy_are_what_they_are(kind):
    class Numbered(Counted):
        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            told = {name: kind(info[name]) for name in ("won", "score")}
            return observation, kind(reward), terminated, truncated, {**info, **told}

    for trajectory in played(Numbered):
        assert (trajectory.won, trajectory.info["won"], trajectory.info["score"]) == (True, True, 1.0)
        assert type(trajectory.info["won"]) is bool


def test_an_environment_that_cannot_be_closed_is_a_warning(caplog):
    class Open(Counted):
        def close(self):
            raise RuntimeError("it stays open")

    with caplog.at_level(logging.WARNING):
        assert all(trajectory.won for trajectory in played(Open))
    assert "could not be closed: RuntimeError: it stays open" in caplog.text


def test_a_constructor_that_fails_once_costs_one_episode():
    made = []

    def make():
        made.append(None)
        if len(made) == 2:
            raise RuntimeError("no room")
        return Faulty(lambda answer: raised(RuntimeError("broken")))

    trajectories = played(make)
    assert [t.stop_reason for t in trajectories] == [StopReason.SUCCESS, StopReason.ENV_ERROR, StopReason.ENV_ERROR]
    assert trajectories[2].info["error"]["message"] == "The environment could not be made: RuntimeError: no room"


def test_a_constructor_that_always_fails_ends_the_run_with_its_error():
    with pytest.raises(RuntimeError, match="no room"):
        played(lambda: raised(RuntimeError("no room")))


def test_code_from_outside_may_run_an_event_loop_of_its_own_and_the_outer_one_goes_on():
    async def outer():
        task = asyncio.current_task()
        assert contained(lambda: asyncio.run(asyncio.sleep(0, "done"))) == "done"
        assert asyncio.current_task() is task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(1)

    asyncio.run(outer())


class Stuck(Faulty):
    """Does not close either."""

    def close(self):
        threading.Event().wait()


def test_a_broken_environment_that_does_not_close_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(ended, "CLOSE_S", 0.1)
    monkeypatch.setattr(ended, "CLOSE_ALL_S", 0.1)
    change, message = STEPS["sys.exit(0)"]
    assert_one_error(played(lambda: Stuck(change)), message)


def fork_that_comes_back(how, codes):
    """A step of which a fork comes back, as it were from a step of its own."""

    def change(answer):
        child = os.fork()
        if child == 0:
            return how(answer)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return answer

    return change


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (lambda answer: sys.exit(), 0),
        (lambda answer: sys.exit(3), 3),
        (lambda answer: sys.exit("no"), 1),
        (lambda answer: raised(ValueError("x")), 1),
        (lambda answer: answer, 1),
    ],
)
@pytest.mark.parametrize("deadline", [None, 30.0])
def test_a_fork_that_comes_back_from_a_step_goes_no_further(how, code, deadline):
    codes: list[int] = []
    trajectories = played(lambda: Faulty(fork_that_comes_back(how, codes)), deadline)
    assert codes == [code]
    assert [t.stop_reason for t in trajectories] == [StopReason.SUCCESS] * 3


@pytest.mark.parametrize("is_in_thread", [False, True])
def test_the_current_event_loop_is_left_to_environments(is_in_thread):
    """Many libraries run the loop that `asyncio.get_event_loop` gives, which must not be that of the episodes."""

    def current():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return asyncio.get_event_loop_policy().get_event_loop()
            except RuntimeError:  # there is none
                return None

    async def seen():
        return contained(current) is asyncio.get_running_loop()

    loop = EventLoop()
    if is_in_thread:
        loop.start()
    try:
        assert not loop.run(seen)
    finally:
        loop.close()
