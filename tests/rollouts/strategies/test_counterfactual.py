from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.team import CounterfactualSection
from agentgym_rft.core import Group
from agentgym_rft.envs.multi_agent import TextAECEnv
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.rollouts.strategies import GroupPlan, counterfactual, plain
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.batch.groups import by_seat
from agentgym_rft.trainers.checks import check_config
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.metrics import generation_metrics
from tests.rollouts.episode import test_run
from tests.rollouts.episode.test_agents import ENV, Routed, agents_of, spec_of, workers
from tests.rollouts.episode.test_run import CARD, TOKENIZER, always, reply
from tests.team_switch import TeamSwitch


class Saying(ScriptedPolicy):
    """Says red, and blue where `is_blue` of a request is true; keeps the requests."""

    def __init__(self, is_blue) -> None:
        super().__init__(lambda prompt: [])
        self._is_blue = is_blue
        self.requests: list[SampleRequest] = []

    async def sample(self, request: SampleRequest) -> Completion:
        self.requests.append(request)
        ids = tuple(reply("blue" if self._is_blue(request) else "red"))
        return Completion(ids, (-0.5,) * len(ids), "stop", 0)


def group_of(policy, agents=None, *, size=1, fault="", pool=None, limits=None, strategy=counterfactual, **section):
    pool = pool or workers(policy, agents_of() if agents is None else agents, fault)
    base = spec_of(group_id="g", record_snapshots=False, **(limits or {}))
    plan = GroupPlan(base, size, counterfactual=CounterfactualSection(**section))
    group: Group = pool.run(lambda: strategy(plan, pool))
    pool.close()
    return group


def differences(trajectory):
    return trajectory.info["counterfactual"]["differences"]


def test_a_turn_is_worth_what_its_agent_loses_without_it():
    """All say red, each of which is worth 0.25 to who says it; `wait` is worth nothing."""
    for part in group_of(always("red"), turns=2).trajectories:
        assert differences(part) == {"0": 0.25, "1": 0.25}
        assert part.rewards == {"env": 0.5, "difference": 0.5}
        assert [turn.reward for turn in part.turns] == [0.5, 0.5]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_return_that_is_compared_has_the_teams_share(share):
    """A red is worth 0.25 to its agent and 0.125 in the mean of both."""
    group = group_of(always("red"), limits={"reward_share": share}, coef=2.0)
    worth = (1 - share) * 0.25 + share * 0.125
    for part in group.trajectories:
        assert list(differences(part).values()) == [pytest.approx(worth)]
        assert part.rewards["difference"] == pytest.approx(2 * worth)
        assert part.episode_return == pytest.approx(sum(turn.reward for turn in part.turns))


def test_who_could_be_replaced_has_no_difference():
    policy = Routed(red=always("red"), blue=always("blue"))
    trained = tuple(replace(seat, is_trained=True) for seat in agents_of(a="red", b="blue"))
    of_a, of_b = group_of(policy, trained, turns=2, limits={"reward_share": 1.0}).trajectories
    assert differences(of_a) == {"0": 0.125, "1": 0.125}
    assert differences(of_b) == {"0": 0.0, "1": 0.0}
    assert of_a.rewards["team"] == of_b.rewards["team"]


def test_what_others_do_after_the_turn_is_part_of_its_worth():
    """b says blue once it has read that a waited: then a's first red is worth the reds of b, too."""
    agents = agents_of()

    class Following(Saying):
        def __init__(self):
            super().__init__(lambda request: "counterfactual" in request.cache_key and request.cache_key.endswith("#b"))

    of_a, _ = group_of(Following(), agents, turns=2, limits={"reward_share": 1.0}).trajectories
    assert differences(of_a) == {"0": 3 * 0.125, "1": 2 * 0.125}


def test_a_resample_of_the_policy_is_compared_with_the_mean_of_its_continuations():
    """One of the two other samples of a turn says blue, and so loses 0.25 for its agent in this turn."""
    policy = Saying(lambda request: "/counterfactual/2.1#a" in request.cache_key)
    for seed in range(20):  # until the second turn of a is drawn
        of_a, _ = group_of(policy, by="policy", samples=2, limits={"seed": seed}).trajectories
        if "1" in differences(of_a):
            break
    assert differences(of_a) == {"1": pytest.approx(0.5 - (0.5 + 0.25) / 2)}
    assert [turn.reward for turn in of_a.turns] == [0.25, 0.25 + 0.125]
    assert all(turn.trainable for turn in of_a.turns)


def test_the_episodes_are_those_of_plain_and_the_continuations_are_no_members():
    plainly = group_of(always("red"), size=3, strategy=plain)
    group = group_of(always("red"), size=3)
    assert [t.episode_id for t in group.trajectories] == [t.episode_id for t in plainly.trajectories]
    for part, other in zip(group.trajectories, plainly.trajectories, strict=True):
        assert [replace(turn, reward=0.0) for turn in part.turns] == [replace(turn, reward=0.0) for turn in other.turns]


def test_all_draws_follow_from_the_seed():
    def drawn(seed):
        group = group_of(always("red"), agents_of(b="random"), size=6, limits={"seed": seed})
        return [tuple(differences(t).items()) for t in group.trajectories if t.agent_id == "a"]

    assert drawn(1) == drawn(1)
    assert {own for each in drawn(1) for own, _ in each} == {"0", "1"}  # both turns are drawn in six episodes
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1


def test_the_first_continuation_after_a_no_op_has_the_random_state_of_the_episode():
    policy = Saying(lambda request: False)
    group_of(policy, turns=2, samples=2)
    episode = {r.seed for r in policy.requests if r.cache_key == "g/0#b"}
    paired = {r.seed for r in policy.requests if r.cache_key == "g/0/counterfactual/0.0#b"}
    other = {r.seed for r in policy.requests if r.cache_key == "g/0/counterfactual/0.1#b"}
    assert paired == episode
    assert other.isdisjoint(episode)
    resampled = Saying(lambda request: False)
    group_of(resampled, turns=2, by="policy")
    first = [r.seed for r in resampled.requests if r.cache_key == "g/0/counterfactual/0.0#a"]
    assert first
    assert set(first).isdisjoint({r.seed for r in resampled.requests if r.cache_key == "g/0#a"})


def failing(where):
    """Says red, and raises in the continuations named so."""

    class Failing(Saying):
        async def sample(self, request: SampleRequest) -> Completion:
            if any(name in request.cache_key for name in where):
                raise PolicyError("out of memory")
            return await super().sample(request)

    return Failing(lambda request: False)


def test_continuations_that_broke_are_left_out_and_counted():
    of_a, of_b = group_of(failing(["counterfactual/0."]), turns=2, samples=2).trajectories
    assert differences(of_a) == {"1": 0.25}
    assert of_a.rewards["difference"] == 0.25
    assert (of_a.info["counterfactual"]["episodes"], of_a.info["counterfactual"]["errors"]) == (4, 2)
    assert of_b.info["counterfactual"]["errors"] == 0
    half, _ = group_of(failing(["counterfactual/0.1"]), turns=2, samples=2).trajectories
    assert differences(half) == {"0": 0.25, "1": 0.25}
    none, _ = group_of(failing(["counterfactual"]), turns=2).trajectories
    assert none.rewards == {"env": 0.5, "difference": 0.0}
    assert not none.is_error


def test_an_errored_episode_is_kept_as_it_was():
    group = group_of(always("red"), fault="step")
    assert all(t.is_error and not t.rewards and "counterfactual" not in t.info for t in group.trajectories)


def test_an_agent_that_left_is_judged_as_those_that_played_on():
    group = group_of(always("red"), fault="leave", turns=9)
    assert [list(differences(part).values()) for part in group.trajectories] == [[0.25] * 3, [0.25]]


def test_only_trained_agents_are_replaced():
    of_a, of_b = group_of(always("red"), agents_of(b="oracle")).trajectories
    assert "difference" in of_a.rewards
    assert of_b.rewards == {"env": 0.5}
    assert "counterfactual" not in of_b.info


def test_the_costs_by_hand():
    group = group_of(always("red"), turns=2)
    metrics = generation_metrics(by_seat([group]))
    red = len(reply("red"))
    after = (3 + 1) + (2 + 0)  # turns after the no-op, for the turns 0 and 2 of a and 1 and 3 of b
    assert metrics == {
        "rollout/turns": 4 + after,
        "rollout/generated_tokens": (4 + after) * red,
        "counterfactual/episodes": 4,
        "counterfactual/errors": 0,
        "counterfactual/turns": after,
        "counterfactual/tokens": after * red,
        "counterfactual/replaced": 4,
        "counterfactual/difference": 0.25,
    }
    resampled = generation_metrics(by_seat([group_of(always("red"), turns=2, by="policy")]))
    assert resampled["counterfactual/turns"] == after + 4  # the replaced turns are sampled, too


def test_environments_in_processes_give_the_same():
    agents = agents_of(b="random")
    here = group_of(always("red"), agents)
    pool = LocalWorkers(
        lambda: ProcessEnv(ENV, {}), CARD, TOKENIZER, always("red"), max_concurrency=1, max_context=200, agents=agents
    )
    assert group_of(None, pool=pool) == here


def test_one_agent_is_compared_with_other_samples_of_its_policy():
    """In the second turn the other sample says blue and the episode is lost."""
    policy = Saying(lambda request: "/counterfactual/1." in request.cache_key)
    pool = test_run.workers(policy)
    spec = spec_of(group_id="g", record_snapshots=False)

    def run(**section):
        plan = GroupPlan(spec, 1, counterfactual=CounterfactualSection(**section))
        return pool.run(lambda: counterfactual(plan, pool))

    (trajectory,) = run(by="policy", turns=2).trajectories
    assert differences(trajectory) == {"0": 0.0, "1": 1.0}
    assert trajectory.rewards == {"env": 1.0, "difference": 1.0}
    with pytest.raises(ConfigError, match="one agent has no no-op"):
        run()


def config_of(env, policy="seed", **changes):
    return validate_config({"env": {"id": env}, "policy": {"path": str(policy), "max_context": 64}} | changes)


@pytest.mark.parametrize(
    "env", ["tests.light_switch:LightSwitch", "tests.rollouts.strategies.test_counterfactual:WithoutNoop"]
)
def test_an_environment_without_a_no_op_is_refused(env):
    refused = config_of(env, rollout={"strategy": "counterfactual"})
    algorithm = build_algorithm(refused.algorithm)
    with pytest.raises(ConfigError, match="has no action that does nothing"):
        check_config(refused, algorithm)
    by_policy = {"counterfactual": {"by": "policy"}}
    check_config(config_of(env, rollout={"strategy": "counterfactual"}, team=by_policy), algorithm)
    check_config(config_of(env), algorithm)


class WithoutNoop(TeamSwitch):
    """Its agents must act."""

    noop = TextAECEnv.noop


def test_a_run_trains_with_it(switch_policy, tmp_path):
    config = config_of(
        ENV,
        switch_policy,
        rollout={"strategy": "counterfactual", "num_tasks": 2, "group_size": 3, "max_steps": 9},
        trainer={"steps": 1},
        eval={"num_tasks": 0},
        run={"out": str(tmp_path / "run")},
    )
    train(config)
    metrics = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert metrics["counterfactual/episodes"] == 2 * 3 * 2
    assert metrics["counterfactual/errors"] == 0
    assert metrics["grad/norm"] > 0
