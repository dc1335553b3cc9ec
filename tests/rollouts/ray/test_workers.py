from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.core import StopReason
from agentgym_rft.errors import ConfigError, PolicyError, WorkersError
from agentgym_rft.rollouts.episode.forks import fork
from agentgym_rft.rollouts.make import make_workers, open_workers
from agentgym_rft.rollouts.ray.actor_group import ActorGroup
from agentgym_rft.rollouts.ray.start import start_actors
from agentgym_rft.rollouts.ray.workers import RayWorkers
from agentgym_rft.rollouts.reflection.chat import ChatRequest
from agentgym_rft.rollouts.workers.local import LocalWorkers
from tests.rollouts.ray.conftest import ray_config
from tests.rollouts.ray.faulty import BREAKING, DEADLY, HANGING
from tests.rollouts.ray.playing import DEADLINE_S, audit, both, kill_process, play, spec, specs, stop_process, tokens

FAULTY = "tests.rollouts.ray.faulty:FaultySwitch"


def opened(config: Any) -> RayWorkers:
    workers = open_workers(config)
    assert isinstance(workers, RayWorkers)
    return workers


def local(config: Any) -> LocalWorkers:
    rollout = config.rollout.model_copy(update={"workers": "local"})
    workers = open_workers(config.model_copy(update={"rollout": rollout}))
    assert isinstance(workers, LocalWorkers)
    return workers


@pytest.fixture(scope="module")
def config(cluster: Any, switch_policy: Path) -> Any:
    return ray_config(switch_policy, FAULTY, max_worker_restarts=100, max_replays=1)


@pytest.fixture(scope="module")
def groups(config: Any, switch_policy: Path) -> Iterator[tuple[RayWorkers, ActorGroup]]:
    """Two workers with a policy each; tests kill them, and leave as many behind. And their group."""
    _, tokenizer = load_model(switch_policy)
    group, _ = start_actors(config, tokenizer, None)
    workers = RayWorkers(config, load_card(config.agent), tokenizer, group)
    yield workers, group
    workers.close()


@pytest.fixture
def workers(groups: tuple[RayWorkers, ActorGroup]) -> RayWorkers:
    return groups[0]


@pytest.fixture
def first_weights(switch_policy: Path) -> dict[str, torch.Tensor]:
    return load_model(switch_policy, device="cpu", dtype=torch.float32)[0].state_dict()


def test_the_same_spec_gives_the_same_episode_as_in_this_process(workers, config):
    wanted = specs(workers, range(10), copies=2)
    here = local(config)
    played, expected = play(workers, wanted), play(here, wanted)
    assert tokens(played) == tokens(expected)
    assert len({turn.action_ids for t in played for turn in t.turns}) > 1
    for one, other in zip(played, expected, strict=True):
        for turn, same in zip(one.turns, other.turns, strict=True):
            assert turn.logprobs == pytest.approx(same.logprobs, abs=1e-5)
    assert audit(workers, wanted, played) == {}


def test_a_fork_and_a_reply_are_those_of_this_process(workers, config):
    async def forked_and_replied(pool):
        parent = await pool.record(spec(pool, 3))
        retry = replace(spec(pool, 3), episode_id="3/0/retry", seed=99)
        ask = ChatRequest("q", [{"role": "user", "content": "Task 3, 2 turns left."}], 8, 1.0, 5)
        return await pool.record(retry, fork(parent, 0, "Say red.")), await pool.reply(ask)

    (played, turn), (same, expected) = (
        pool.run(lambda p=pool: forked_and_replied(p)) for pool in (workers, local(config))
    )
    assert tokens([played.trajectory]) == tokens([same.trajectory])
    assert played.trajectory.parent_id == "3/0"
    assert played.unguided is not None
    assert turn is not None
    assert tuple(turn.action_ids) == tuple(expected.action_ids)


def test_new_weights_reach_every_worker_and_a_restarted_one_has_them_too(workers, first_weights):
    changed = {name: tensor + 0.5 * torch.randn_like(tensor) for name, tensor in first_weights.items()}
    workers.run(lambda: workers.load(changed, 5))
    assert workers.version == 5
    wanted = specs(workers, range(8), copies=2)
    before = play(workers, wanted)
    assert {turn.policy_version for t in before for turn in t.turns} == {5}
    for pid in both(workers):
        kill_process(pid)
    after = play(workers, wanted)
    assert {turn.policy_version for t in after for turn in t.turns} == {5}
    assert tokens(after) == tokens(before)
    workers.run(lambda: workers.load(first_weights, 6))
    assert audit(workers, wanted, after)["worker_restarted"] == 2
    assert tokens(play(workers, wanted)) != tokens(before)


def test_weights_that_do_not_fit_are_refused_by_name(workers, first_weights):
    renamed = {f"other.{name}": tensor for name, tensor in first_weights.items()}
    with pytest.raises(PolicyError, match=r"no weights named 'other\."):
        workers.run(lambda: workers.load(renamed, 7))
    workers.run(lambda: workers.load(first_weights, 8))


def test_log_probs_that_are_not_finite_end_the_episode_as_an_error_of_the_policy(workers, first_weights):
    broken = {name: torch.full_like(tensor, float("nan")) for name, tensor in first_weights.items()}
    workers.run(lambda: workers.load(broken, 9))
    wanted = specs(workers, range(4))
    played = play(workers, wanted)
    assert {t.stop_reason for t in played} == {StopReason.POLICY_ERROR}
    assert audit(workers, wanted, played) == {}
    workers.run(lambda: workers.load(first_weights, 10))
    assert not any(t.is_error for t in play(workers, wanted))


def test_the_episodes_of_a_worker_killed_in_their_middle_are_begun_again_elsewhere(workers):
    wanted = specs(workers, range(12))
    expected = play(workers, wanted)
    victim, other = both(workers)
    stop_process(victim)  # it holds the episodes that it was given, until it dies with them
    played = play(workers, wanted, lambda _: victim in workers.living() and kill_process(victim))
    assert tokens(played) == tokens(expected)
    faults = audit(workers, wanted, played, gone=[victim])
    assert faults["worker_lost"] == 1
    assert 1 <= faults["episode_replayed"] <= 4
    assert other in workers.living()


def test_an_environment_that_always_takes_its_process_down_ends_as_an_error_without_a_reward(workers):
    wanted = specs(workers, [DEADLY])
    (lost,) = played = play(workers, wanted)
    assert lost.stop_reason is StopReason.ENV_ERROR
    assert lost.info["error"]["type"] == "WorkerLost"
    assert "2 times" in lost.info["error"]["message"]
    faults = audit(workers, wanted, played)
    assert (faults["worker_lost"], faults["episode_replayed"], faults["episode_given_up"]) == (2, 1, 1)


def test_environments_that_break_or_hang_end_their_own_episode_only(workers):
    wanted = [*specs(workers, [BREAKING, *range(6)]), *specs(workers, [HANGING], step_timeout_s=0.3)]
    broken, *good, hung = played = play(workers, wanted)
    assert broken.stop_reason is StopReason.ENV_ERROR
    assert broken.info["error"]["type"] == "ZeroDivisionError"
    assert hung.stop_reason is StopReason.TIMEOUT
    assert not any(t.is_error for t in good)
    assert audit(workers, wanted, played) == {}


def test_with_processes_of_its_own_a_deadly_environment_costs_no_worker(cluster, switch_policy):
    config = ray_config(switch_policy, FAULTY, num_workers=1)
    processes = config.rollout.processes.model_copy(update={"num_processes": 2})
    rollout = config.rollout.model_copy(update={"processes": processes})
    workers = opened(config.model_copy(update={"rollout": rollout}))
    pids = set(workers.living())
    wanted = [*specs(workers, [DEADLY, *range(4)]), *specs(workers, [HANGING], step_timeout_s=0.5)]
    played = play(workers, wanted)
    assert played[0].stop_reason is StopReason.ENV_ERROR
    assert played[-1].stop_reason is StopReason.TIMEOUT
    again = play(workers, specs(workers, range(6)))
    assert not any(t.is_error for t in again)
    assert set(workers.living()) == pids
    assert audit(workers, wanted, played) == {}
    workers.close()


def test_a_cancelled_episode_gives_its_place_back(workers):
    async def cancelled_then_played():
        begun = [asyncio.ensure_future(workers.play(each)) for each in specs(workers, range(30), copies=2)]
        await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        return await asyncio.gather(*map(workers.play, specs(workers, range(12))))

    assert len(workers.run(cancelled_then_played)) == 12
    assert workers.take_faults() == {}


@pytest.mark.slow
def test_a_lost_node_takes_its_worker_with_it_and_the_rest_goes_on(cluster, switch_policy):
    node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    env = "tests.light_switch:LightSwitch"
    workers = opened(ray_config(switch_policy, env, num_workers=2, num_cpus=1))
    wanted = specs(workers, range(24), copies=2)
    expected = play(workers, wanted)
    (victim,) = (pid for pid, where in workers.living().items() if where == node.node_id)
    stop_process(victim)
    is_there = [True]

    def lose_the_node(_):
        if is_there:
            is_there.clear()
            cluster.remove_node(node, allow_graceful=False)

    played = play(workers, wanted, lose_the_node)
    assert tokens(played) == tokens(expected)
    faults = audit(workers, wanted, played, gone=[victim])
    assert faults["worker_lost"] == 1
    assert faults["episode_replayed"] >= 1
    assert len(workers.living()) == 1
    pids = workers.pids
    workers.close()
    audit(workers, [], [], gone=pids)


def test_an_environment_that_a_worker_cannot_build_is_said_before_the_first_episode(cluster, switch_policy):
    config = ray_config(switch_policy, "tests.rollouts.ray.faulty:Unbuildable", num_workers=1)
    with pytest.raises(
        ConfigError, match=r"A Ray worker cannot be set up: NotThere: No module named 'switches' there\. Pack"
    ):
        open_workers(config)


def test_workers_for_which_the_cluster_has_no_room_are_refused(cluster, switch_policy):
    config = ray_config(switch_policy, "tests.light_switch:LightSwitch", num_cpus=64, start_timeout_s=1)
    with pytest.raises(ConfigError, match=r"Not all of 2 workers were ready .* The cluster has 1 CPUs"):
        open_workers(config)
    _, tokenizer = load_model(switch_policy)
    with pytest.raises(ConfigError, match="Not all of 2 workers"):
        make_workers(config, tokenizer, None)


def play_often(workers, wanted, on_each):
    """Again and again: the other worker may have played all before the loss of one is noticed."""
    for _ in range(100):
        play(workers, wanted, on_each)


def test_episodes_go_on_in_the_background_until_too_many_workers_are_lost(groups):
    workers, group = groups
    victim, _ = both(workers)
    workers.start()
    assert not workers.submit(lambda: workers.play(spec(workers, 1))).result(DEADLINE_S).is_error
    group.budget.allowed = group.budget.used
    wanted = specs(workers, range(12))
    stop_process(victim)
    with pytest.raises(WorkersError, match=r"Ray workers .* were lost, more than rollout.ray.max_worker_restarts="):
        play_often(workers, wanted, lambda _: victim in workers.living() and kill_process(victim))
    with pytest.raises(WorkersError, match="were lost"):
        workers.run(lambda: workers.play(spec(workers, 2)))
    workers.take_faults()
    pids = workers.pids
    workers.close()
    audit(workers, [], [], gone=pids)
