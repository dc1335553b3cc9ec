from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.core import StopReason
from agentgym_rft.rollouts.make import open_workers
from agentgym_rft.rollouts.ray.actor_group import ActorGroup
from agentgym_rft.rollouts.ray.start import start_actors
from agentgym_rft.rollouts.ray.workers import RayWorkers
from tests.rollouts.ray.conftest import ray_config
from tests.rollouts.ray.playing import audit, both, kill_process, play, specs, stop_process, tokens

SWITCH = "tests.light_switch:LightSwitch"


class Mumbler:
    """A replica whose completions have fewer log-probs than tokens."""

    async def sample(self, request: SampleRequest) -> Completion:
        return Completion((1, 2, 3), (-0.5,), "stop", 0)

    async def release(self, cache_key: str) -> None:
        """It remembers nothing."""


@pytest.fixture(scope="module")
def groups(cluster: Any, switch_policy: Path) -> Iterator[tuple[RayWorkers, ActorGroup]]:
    """One worker and two replicas that its episodes share; and the group of that worker."""
    config = ray_config(switch_policy, SWITCH, num_workers=1, episodes_per_worker=12, policy_replicas=2)
    _, tokenizer = load_model(switch_policy)
    group, replicas = start_actors(config, tokenizer, None)
    workers = RayWorkers(config, load_card(config.agent), tokenizer, group, replicas)
    yield workers, group
    pids = workers.pids
    workers.close()
    audit(workers, [], [], gone=pids)


@pytest.fixture
def workers(groups: tuple[RayWorkers, ActorGroup]) -> RayWorkers:
    return groups[0]


def test_replicas_give_the_episodes_of_a_policy_in_this_process(workers, switch_policy):
    config = ray_config(switch_policy, SWITCH)
    here = open_workers(config.model_copy(update={"rollout": config.rollout.model_copy(update={"workers": "local"})}))
    wanted = specs(workers, range(12), copies=2)
    played = play(workers, wanted)
    assert tokens(played) == tokens(play(here, wanted))
    assert audit(workers, wanted, played) == {}


def test_the_requests_of_a_replica_killed_in_mid_generation_go_to_the_other_one(workers):
    wanted = specs(workers, range(24))
    expected = play(workers, wanted)
    victim, _ = both(workers, "replica")
    stop_process(victim)  # its requests stay with it until it dies
    played = play(workers, wanted, lambda _: victim in workers.living("replica") and kill_process(victim))
    assert tokens(played) == tokens(expected)
    faults = audit(workers, wanted, played, gone=[victim])
    assert faults["replica_lost"] == 1
    assert faults["request_repeated"] >= 1


def test_a_restarted_replica_samples_with_the_newest_weights(workers, switch_policy):
    weights = load_model(switch_policy, device="cpu", dtype=torch.float32)[0].state_dict()
    workers.run(lambda: workers.load(weights, 3))
    for pid in both(workers, "replica"):
        kill_process(pid)
    wanted = specs(workers, range(12))
    played = play(workers, wanted)
    assert not any(t.is_error for t in played)
    assert {turn.policy_version for t in played for turn in t.turns} == {3}
    assert audit(workers, wanted, played)["replica_lost"] == 2


def test_a_malformed_completion_ends_the_episode_as_an_error_of_the_policy(groups):
    workers, group = groups
    both(workers, "replica")
    mumbler = ray.remote(Mumbler).options(num_cpus=0).remote()
    (worker,) = group.handles().values()
    ray.get(worker.set_replicas.remote({0: mumbler}))
    wanted = specs(workers, range(3))
    played = play(workers, wanted)
    assert {t.stop_reason for t in played} == {StopReason.POLICY_ERROR}
    assert "3 ids with 1 log-probs" in played[0].info["error"]["message"]
    assert audit(workers, wanted, played) == {}
    ray.kill(mumbler)
