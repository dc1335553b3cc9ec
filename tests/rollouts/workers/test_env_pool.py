"""Environments in worker processes: the same episodes as without, several at once, and faults that stay there."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.config.run import Config
from agentgym_rft.core import StopReason
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.process.pool import Processes
from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate
from agentgym_rft.evaluation.players import text_workers
from agentgym_rft.rollouts.episode.forks import fork
from agentgym_rft.rollouts.episode.players import scripted
from agentgym_rft.rollouts.workers.env_maker import env_maker
from agentgym_rft.trainers.loop import train
from tests.envs.process.test_env import is_running
from tests.light_switch import weights_of
from tests.rollouts.hosted_envs import CHUNK
from tests.rollouts.ladder import reply, spec_for, workers
from tests.trainers.test_loop import final_weights, switch_config

BREAKING = "tests.envs.breaking_env:BreakingEnv"
MEETING = "tests.rollouts.hosted_envs:Meeting"
Script = Callable[[str, int, random.Random], str]


class Acting(ScriptedPolicy):
    """Does what a function of the episode's id, the turn and a generator of the request says."""

    def __init__(self, script: Script) -> None:
        super().__init__(lambda prompt: [])
        self._script = script
        self._turns: dict[str, int] = {}

    async def sample(self, request: SampleRequest) -> Completion:
        turn = self._turns[request.cache_key] = self._turns.get(request.cache_key, -1) + 1
        await asyncio.sleep(0)  # a policy lets the others go on
        ids = tuple(reply(self._script(request.cache_key, turn, random.Random(request.seed))))
        return Completion(ids, (-0.5,) * len(ids), "stop", self.version)


def up(episode: str, turn: int, rng: random.Random) -> str:
    return "up"


def pool_of(script: Script, processes: Processes, id: str = BREAKING, *, concurrency: int = 8, **options: object):
    made = partial(ProcessEnv, id, options, processes=processes, lazy=True)
    return workers(Acting(script), made, concurrency=concurrency)


def play(pool, names, task_id: str = "train-1", max_steps: int = 4, **limits: object):
    """Episodes of these names, at once."""

    async def all_of_them():
        first = replace(spec_for(pool, max_steps), task_id=task_id, **limits)
        specs = [replace(first, episode_id=name, seed=number) for number, name in enumerate(names)]
        return await asyncio.gather(*(pool.play(spec) for spec in specs))

    return pool.run(all_of_them)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_episodes_are_those_of_local_workers(num_processes):
    def wander(episode, turn, rng):
        return rng.choice(["left", "down", "right", "up"])

    def lake(pool):
        tasks = make_env("frozenlake").task_ids("train")[:6]
        return [t for task in tasks for t in play(pool, ("a", "b"), task, max_steps=12)]

    processes = Processes(num_processes, timeout_s=60)
    there, here = pool_of(wander, processes, "frozenlake"), workers(Acting(wander), lambda: make_env("frozenlake"))
    expected = lake(here)
    assert lake(there) == expected
    assert len({t.stop_reason for t in expected}) > 1
    assert len(processes.pids) == num_processes
    there.close()
    assert processes.pids == []


def test_a_run_ends_with_the_weights_of_a_local_one(switch_policy, tmp_path):
    for name in ("local", "processes"):
        config = switch_config(switch_policy, tmp_path / name, steps=2).model_dump()
        config["rollout"] |= {"workers": name, "processes": {"num_processes": 2}}
        config["eval"]["num_tasks"] = 0
        train(Config.model_validate(config))
    first, second = final_weights(tmp_path / "local"), final_weights(tmp_path / "processes")
    start = weights_of(switch_policy)
    for name, tensor in first.items():  # episodes end in another order, so sums may differ in the last bits
        assert (tensor - second[name]).abs().max() < 1e-4, name
    assert max((tensor - start[name]).abs().max() for name, tensor in first.items()) > 1e-2


def test_steps_of_different_processes_run_at_the_same_time(tmp_path):
    pool = pool_of(up, Processes(3), MEETING, folder=str(tmp_path), size=3)
    assert [t.stop_reason for t in play(pool, "abc")] == [StopReason.SUCCESS] * 3
    pool.close()


def test_an_environment_with_a_process_of_its_own_runs_beside_others_without_a_pool(tmp_path):
    alone = partial(ProcessEnv, MEETING, {"folder": str(tmp_path), "size": 2}, lazy=True)
    pool = workers(Acting(up), alone)
    assert [t.stop_reason for t in play(pool, "ab")] == [StopReason.SUCCESS] * 2
    pool.close()


def breaks(fault: str) -> Script:
    return lambda episode, turn, rng: fault if episode == "bad" and turn == 1 else "up"


def test_an_error_is_that_of_its_episode_alone():
    processes = Processes(1, timeout_s=60)
    pool = pool_of(breaks("raise"), processes)
    good, bad, other = play(pool, ("good", "bad", "other"))
    assert (good.stop_reason, other.stop_reason) == (StopReason.SUCCESS, StopReason.SUCCESS)
    assert bad.stop_reason is StopReason.ENV_ERROR
    assert bad.rewards == {}
    assert bad.info["error"] == {"type": "EnvError", "message": "ValueError: the counter is stuck", "turn": 1}
    pool.close()


@pytest.mark.parametrize(
    ("fault", "stop", "message"),
    [
        ("sleep", StopReason.TIMEOUT, "took longer than"),
        ("spin", StopReason.TIMEOUT, "took longer than"),
        ("kill", StopReason.ENV_ERROR, "was killed by SIGKILL during 'step'"),
        ("fork", StopReason.ENV_ERROR, "ended with exit code 5 during 'step'"),
    ],
)
def test_a_process_that_is_lost_takes_its_episodes_along_and_no_others(fault, stop, message):
    processes = Processes(2, timeout_s=60)
    pool = pool_of(breaks(fault), processes)
    play(pool, "abcd")  # the processes are there, so that the deadline below is one of the environment
    before = set(processes.pids)
    bad, *others = play(pool, ("bad", "b", "c", "d"), step_timeout_s=3.0)
    assert bad.stop_reason is stop
    assert message in bad.info["error"]["message"]
    (beside,) = [t for t in others if t.stop_reason is not StopReason.SUCCESS]  # of two processes with two each
    assert beside.stop_reason is StopReason.ENV_ERROR
    assert "nother episode" in beside.info["error"]["message"]
    assert [t.stop_reason for t in play(pool, "abcd")] == [StopReason.SUCCESS] * 4  # another takes its place
    (lost,) = before - set(processes.pids)
    assert not is_running(lost)
    assert len(processes.pids) == 2
    pool.close()


@pytest.mark.parametrize(("fault", "stop"), [("sleep", StopReason.TIMEOUT), ("kill", StopReason.ENV_ERROR)])
def test_the_call_that_breaks_a_process_is_blamed_and_none_that_was_answered_before(fault, stop):
    pool = pool_of(breaks(fault), Processes(1, timeout_s=60))
    play(pool, "abcdef")
    *others, bad = play(pool, ("a", "b", "c", "d", "e", "bad"), step_timeout_s=3.0)
    assert bad.stop_reason is stop
    assert "nother episode" not in bad.info["error"]["message"]
    assert all("nother episode" in t.info["error"]["message"] for t in others if t.is_error)
    pool.close()


def test_a_process_killed_from_outside_in_mid_episode_is_an_error_with_its_cause():
    processes = Processes(1, timeout_s=60)

    def shoot(episode, turn, rng):
        if turn == 1:
            os.kill(processes.pids[0], signal.SIGKILL)
        return "up"

    pool = pool_of(shoot, processes)
    (trajectory,) = play(pool, ("a",))
    assert trajectory.stop_reason is StopReason.ENV_ERROR
    assert "was killed by SIGKILL" in trajectory.info["error"]["message"]
    pool.close()


def test_processes_of_a_leaking_environment_are_replaced_and_their_memory_is_bounded():
    processes = Processes(2, timeout_s=60, recycle_after=3)
    pool = pool_of(up, processes, "tests.rollouts.hosted_envs:Leaking", concurrency=4)

    async def starts():
        spec = replace(spec_for(pool), task_id="train-1")
        played = await asyncio.gather(*(pool.record(replace(spec, episode_id=str(n))) for n in range(30)))
        return [p.observations[0].info for p in played]

    infos = pool.run(starts)
    assert len({info["pid"] for info in infos}) >= 10
    # Those that run at once may begin together, one more for each of the other places of a process.
    assert max(info["num_leaked"] for info in infos) <= 3
    sizes = [info["resident"] - info["num_leaked"] * CHUNK for info in infos]
    assert max(sizes) - min(sizes) < CHUNK
    assert len(processes.pids) <= 4
    pool.close()
    assert not any(is_running(info["pid"]) for info in infos)


def test_snapshots_and_forks_go_through_a_process():
    def script(episode, turn, rng):
        return "down" if episode == "parent" and turn == 2 else "up"

    pool = pool_of(script, Processes(2, timeout_s=60), goal=3)

    async def parent_and_retry(record_snapshots):
        spec = replace(spec_for(pool, 3), task_id="train-1", episode_id="parent", record_snapshots=record_snapshots)
        parent = await pool.record(replace(spec, record_remaining=True))
        return parent, await pool.record(replace(spec, episode_id="retry"), fork(parent, 2))

    for record_snapshots in (True, False):
        pool._policy._turns.clear()
        parent, retry = pool.run(lambda kept=record_snapshots: parent_and_retry(kept))
        assert len(parent.snapshots) == (3 if record_snapshots else 0)
        assert parent.remaining == (3, 2, 1, 2)
        assert parent.trajectory.stop_reason is StopReason.STEP_LIMIT
        assert retry.trajectory.stop_reason is StopReason.SUCCESS
        assert retry.trajectory.turns[:2] == parent.trajectory.turns[:2]
    pool.close()


@pytest.mark.parametrize("kind", ["oracle", "expert", "random"])
def test_scripted_players_of_an_evaluation_play_as_without_processes(kind):
    def played(make):
        pool = text_workers(make, scripted(kind), max_concurrency=4)
        tasks = make_env("frozenlake").task_ids("test")[:8]
        trajectories = evaluate(pool, EvaluationPlan(tasks, temperature=0.0, seed=0, max_steps=30))
        pool.close()
        return trajectories

    processes = Processes(2, timeout_s=60)
    there = played(partial(ProcessEnv, "frozenlake", processes=processes, lazy=True))
    assert there == played(lambda: make_env("frozenlake"))
    assert processes.pids == []


def test_a_cancelled_episode_leaves_its_process_to_the_others():
    processes = Processes(1, timeout_s=60)
    pool = pool_of(up, processes)

    async def cut_off():
        spec = replace(spec_for(pool), task_id="train-1")
        both = [asyncio.ensure_future(pool.play(replace(spec, episode_id=name))) for name in "ab"]
        while not processes.pids:
            await asyncio.sleep(0)
        both[0].cancel()
        return (await asyncio.gather(*both, return_exceptions=True))[1]

    assert pool.run(cut_off).stop_reason is StopReason.SUCCESS
    assert play(pool, "c")[0].stop_reason is StopReason.SUCCESS
    pool.close()
    assert processes.pids == []


def test_environments_go_on_between_runs_of_a_background_loop_and_end_with_it():
    processes = Processes(2, timeout_s=60)
    pool = pool_of(breaks("sleep"), processes)
    assert play(pool, "ab")[0].stop_reason is StopReason.SUCCESS  # on a loop of its own
    pool.start()
    assert play(pool, "cd")[0].stop_reason is StopReason.SUCCESS
    pids = processes.pids
    spec = replace(spec_for(pool), task_id="train-1", episode_id="bad")
    begun = threading.Event()

    async def hang():
        begun.set()
        return await pool.play(spec)

    pool.submit(hang)
    begun.wait()
    pool.close()
    assert not any(is_running(pid) for pid in pids)


@pytest.mark.parametrize("last", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_driver_leaves_no_process(last):
    program = """
from tests.rollouts.workers.test_env_pool import *
processes = Processes(2, timeout_s=None)
pool = pool_of(breaks("sleep"), processes)
play(pool, "abcd")
print(*processes.pids, flush=True)
play(pool, ("bad", "good", "bad", "good"))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    driver = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    driver.send_signal(last)
    # The environments' processes have our pipe as their standard error: this returns when they, too, have ended.
    _, errors = driver.communicate(timeout=60)
    assert len(pids) == 2, errors
    assert driver.returncode != 0


def test_the_configuration_says_how_many_processes():
    config = {
        "env": {"id": BREAKING},
        "policy": {"max_concurrency": 3},
        "rollout": {"workers": "processes", "processes": {"num_processes": 8, "recycle_after": 2}},
    }
    envs = []

    def make():
        envs.append(made())
        return envs[-1]

    made = env_maker(Config.model_validate(config))
    pool = text_workers(make, scripted("oracle"), max_concurrency=3)
    plan = EvaluationPlan([f"train-{n}" for n in range(3)], temperature=0.0, seed=0, max_steps=4)
    assert all(t.won for t in evaluate(pool, plan))
    pids = {env.pid for env in envs}
    assert len(pids) == 3  # not more than episodes at once
    pool.close()
    assert not any(is_running(pid) for pid in pids)
