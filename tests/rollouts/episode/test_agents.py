"""Episodes of several agents, and what has to be alike for one agent and for several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.routed import RoutedPolicy, joined_weights, split_weights
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.config.team import SeatSection
from agentgym_rft.core import Group, StopReason
from agentgym_rft.envs.making import make_env, seats_of
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, fork
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seats import Agents, AgentSpec, check_seats, seat_section
from agentgym_rft.rollouts.strategies import GroupPlan, plain
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.batch.groups import by_seat
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.metrics import seat_metrics
from tests.light_switch import LightSwitch
from tests.rollouts.episode.test_run import CARD, TOKENIZER, always, reply

ENV = "tests.team_switch:TeamSwitch"
CHAT = chat_format(TOKENIZER, CARD)


def agents_of(**players: str) -> Agents:
    """Seats a and b, trained by the policy "" unless told otherwise."""
    keys = {"a": "", "b": "", **players}
    return tuple(AgentSpec(agent, "switcher", CARD, CHAT, key, key == "") for agent, key in keys.items())


def workers(
    policy: object, agents: Agents = (), fault: str = "", make: Callable[..., object] = make_env
) -> LocalWorkers:
    """Of the agents given; without any, of the only agent of an environment that does not name it."""

    def env() -> object:
        return make(ENV, {"fault": fault}) if agents else LightSwitch(fault)

    return LocalWorkers(env, CARD, TOKENIZER, policy, max_concurrency=4, max_context=200, agents=agents)


def spec_of(**changes: object) -> EpisodeSpec:
    return replace(EpisodeSpec("1", "g", "e", 0, 1.0, 9, 200, record_snapshots=True), **changes)


def play(pool: LocalWorkers, start: object = None, **changes: object) -> EpisodeRecord:
    played = pool.run(lambda: pool.record(spec_of(**changes), start))
    pool.close()
    return played


class Routed(RoutedPolicy):
    """Policies by seat, for tests in which agents differ."""

    def __init__(self, **policies: object) -> None:
        super().__init__(policies, tuple(policies))


class Never(ScriptedPolicy):
    """Does not answer."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: reply("red"))

    async def sample(self, request: SampleRequest) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError


class Lying(ScriptedPolicy):
    """Its log-probs are no numbers."""

    async def sample(self, request: SampleRequest) -> Completion:
        completion = await super().sample(request)
        return replace(completion, logprobs=(float("nan"),) * len(completion.ids))


ONE_AND_SEVERAL = [pytest.param((), id="one"), pytest.param(agents_of(), id="several")]


def test_each_agent_has_a_trajectory_of_its_own_with_the_sampled_ids():
    played = play(workers(always("red"), agents_of()))
    assert played.trajectory.stop_reason is StopReason.SUCCESS
    assert [turn.info["agent"] for turn in played.trajectory.turns] == ["a", "b", "a", "b"]
    assert [each.agent_id for each in played.team] == ["a", "b"]
    for each in played.team:
        assert each.episode_id == "e"
        assert each.rewards == {"env": 0.5}
        assert [turn.reward for turn in each.turns] == [0.25, 0.25]
        row = [i for turn in each.turns for i in (*turn.context_ids, *turn.action_ids)]
        assert TOKENIZER.decode(row).count("<|user|>") == 2
    table, rows = build_table(by_seat([Group("g", "1", played.team)]), 0)
    assert table.num_trajectories == len(rows) == 2
    assert table.trajectory_group.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("share", "of_a", "of_b"),
    [
        (0.0, {"env": 0.5}, {"env": 0.0}),
        (0.5, {"env": 0.25, "team": 0.125}, {"env": 0.0, "team": 0.125}),
        (1.0, {"env": 0.0, "team": 0.25}, {"env": 0.0, "team": 0.25}),
    ],
)
def test_the_return_is_the_agents_own_and_its_share_of_the_teams(share, of_a, of_b):
    policy = Routed(red=always("red"), blue=always("blue"))
    played = play(workers(policy, agents_of(a="red", b="blue")), reward_share=share)
    for each, expected in zip(played.team, (of_a, of_b), strict=True):
        assert each.rewards == expected
        assert sum(turn.reward for turn in each.turns) == sum(expected.values())
    assert played.trajectory.episode_return == 0.25


def test_a_reward_between_turns_goes_to_the_agents_last_turn():
    policy = Routed(red=always("red"), blue=always("blue"))
    played = play(workers(policy, agents_of(a="blue", b="red")), reward_share=1.0)
    assert [turn.reward for turn in played.of("a").turns] == [0.125, 0.125]  # b says red after each of them


@pytest.mark.parametrize(
    ("broken", "stop", "kind"),
    [
        (Lying(lambda prompt: reply("red")), StopReason.POLICY_ERROR, "PolicyError"),
        (Never(), StopReason.TIMEOUT, "TimeoutError"),
    ],
)
def test_what_one_agent_breaks_is_its_error_and_the_others_are_abandoned(broken, stop, kind):
    policy = Routed(good=always("red"), bad=broken)
    played = play(workers(policy, agents_of(a="good", b="bad")), reply_timeout_s=0.2)
    assert played.trajectory.stop_reason is stop
    assert played.of("b").stop_reason is stop
    assert played.of("b").info["error"]["type"] == kind
    assert played.of("a").stop_reason is StopReason.ABANDONED
    assert played.of("a").info["error"]["message"] == "'b' broke the episode."
    assert all(each.is_error and not each.rewards for each in played.team)


def test_an_agent_that_was_out_before_keeps_its_outcome():
    replies = ["red"]
    policy = Routed(good=always("blue"), bad=ScriptedPolicy(lambda prompt: reply(replies.pop())))
    played = play(workers(policy, agents_of(a="bad", b="good"), fault="leave"))
    assert played.of("b").stop_reason is StopReason.FAILURE
    assert played.of("b").rewards == {"env": 0.0}
    assert len(played.of("b").turns) == 1
    assert played.of("a").stop_reason is StopReason.POLICY_ERROR
    assert played.of("a").info["error"]["type"] == "IndexError"


@pytest.mark.parametrize(
    ("agents", "fault", "kind", "turn"),
    [
        ((), "reset", "ValueError", 0),
        ((), "step", "ZeroDivisionError", 0),
        ((), "nan", "EnvError", 0),
        (agents_of(), "step", "ZeroDivisionError", 3),
        (agents_of(), "stranger", "EnvError", 1),
        (agents_of(), "won", "EnvError", 2),
        (agents_of(), "score", "EnvError", 3),
    ],
)
def test_what_the_environment_breaks_is_an_error_of_all_with_type_and_turn(agents, fault, kind, turn):
    played = play(workers(always("red"), agents, fault), task_id="3")
    for trajectory in (played.trajectory, *played.trajectories):
        assert trajectory.stop_reason is StopReason.ENV_ERROR
        assert (trajectory.info["error"]["type"], trajectory.info["error"]["turn"]) == (kind, turn)
        assert not trajectory.rewards
        with pytest.raises(ValueError, match="has no return"):
            _ = trajectory.episode_return


def fail(prompt: object) -> list[int]:
    raise MemoryError("too much")


@pytest.mark.parametrize("agents", ONE_AND_SEVERAL)
@pytest.mark.parametrize(
    ("policy", "stop", "kind"),
    [
        (Never(), StopReason.TIMEOUT, "TimeoutError"),
        (Lying(lambda prompt: reply("red")), StopReason.POLICY_ERROR, "PolicyError"),
        (ScriptedPolicy(fail), StopReason.POLICY_ERROR, "MemoryError"),
    ],
)
def test_whatever_a_policy_raises_is_the_agents_error(agents, policy, stop, kind):
    played = play(workers(policy, agents), reply_timeout_s=0.05)
    assert played.trajectories[0].stop_reason is played.trajectory.stop_reason is stop
    assert played.trajectory.info["error"]["type"] == kind


@pytest.mark.parametrize(
    ("agents", "observation", "state_key"),
    [
        ((), "That was not a valid reply (empty).", "2"),  # nothing happened
        (agents_of(b="oracle"), "Task 1, 2 turns left.", "a['', 'red']"),  # it was a turn
    ],
)
def test_a_reply_without_an_action_reaches_the_environment_only_where_agents_are_named(agents, observation, state_key):
    replies = iter(["", "red", "red"])
    played = play(workers(ScriptedPolicy(lambda prompt: reply(next(replies))), agents))
    first, second = played.trajectories[0].turns[:2]
    assert (first.info["action"], first.info["invalid_action"]) == ("", "empty")
    assert (second.info["observation"], second.state_key) == (observation, state_key)


@pytest.mark.parametrize("agents", ONE_AND_SEVERAL)
def test_each_turn_that_was_begun_has_a_snapshot_and_what_remained(agents):
    played = play(workers(always("red"), agents), max_context=30, record_remaining=True)
    assert played.trajectory.stop_reason is StopReason.TOKEN_LIMIT
    num_turns = len(played.trajectory.turns)
    assert num_turns == (3 if agents else 1)
    assert len(played.remaining) == num_turns + 1
    assert len(played.snapshots) == (num_turns if agents else 0)  # the light switch has none


def test_the_limit_counts_the_turns_of_all():
    played = play(workers(always("red"), agents_of()), max_steps=3)
    assert [len(each.turns) for each in played.team] == [2, 1]
    assert {each.stop_reason for each in played.team} == {StopReason.STEP_LIMIT}


def test_scripts_and_frozen_policies_play_and_are_not_trained():
    policy = Routed(**{"": always("blue"), "frozen": always("red")})
    played = play(workers(policy, agents_of(b="oracle")))
    assert [turn.info["action"] for turn in played.of("b").turns] == ["red", "red"]
    groups = by_seat([Group("g", "1", played.team)])
    assert [trajectory.agent_id for group in groups for trajectory in group.trajectories] == ["a"]
    other = play(workers(policy, agents_of()), players={"b": "frozen"})
    assert [each.info["is_trained"] for each in other.team] == [True, False]
    assert not any(turn.trainable for turn in other.of("b").turns)


def test_random_seats_follow_from_the_seed():
    actions = [
        [turn.info["action"] for turn in play(workers(always("red"), agents_of(b="random")), seed=seed).of("b").turns]
        for seed in (3, 3, *range(8))
    ]
    assert actions[0] == actions[1]
    assert len({tuple(each) for each in actions}) > 1


@pytest.mark.parametrize("has_snapshots", [True, False])
def test_a_fork_keeps_the_turns_before_it_of_all_agents(has_snapshots):
    policy = Routed(red=always("red"), blue=always("blue"))
    parent = play(workers(policy, agents_of(a="red", b="red")), record_snapshots=has_snapshots, reward_share=0.5)
    assert bool(parent.snapshots) == has_snapshots
    again = play(workers(policy, agents_of(a="red", b="blue")), fork(parent, 3), episode_id="r", reward_share=0.5)
    assert again.of("a").turns[0] == parent.of("a").turns[0]
    assert [turn.info["action"] for turn in again.trajectory.turns] == ["red", "red", "red", "blue"]
    assert again.of("a").episode_return == pytest.approx(0.25 + 0.5 * (0.75 / 2))
    assert sum(turn.reward for turn in again.of("a").turns) == pytest.approx(again.of("a").episode_return)
    assert (again.trajectory.parent_id, again.trajectory.fork_turn) == ("e", 3)


@pytest.mark.parametrize(("agents", "invalid", "returns"), [((), "", [0.0]), (agents_of(), "refused", [0.5, 0.25])])
def test_a_fork_may_replace_a_turn_which_is_not_trained(agents, invalid, returns):
    parent = play(workers(always("red"), agents))
    again = play(workers(always("red"), agents), fork(parent, 1, action="wait"))
    turn = again.trajectory.turns[1]
    assert (turn.info["action"], turn.info["invalid_action"], turn.trainable) == ("wait", invalid, False)
    assert list(turn.action_ids) == reply("wait")
    assert [each.episode_return for each in again.trajectories] == returns


def test_environments_in_processes_play_the_same():
    here = play(workers(always("red"), agents_of(b="random")))
    there = play(workers(always("red"), agents_of(b="random"), make=ProcessEnv))
    assert here.team == there.team


def test_a_group_has_every_agent_of_every_episode():
    pool = workers(always("red"), agents_of())
    group = pool.run(lambda: plain(GroupPlan(spec_of(), 3), pool))
    assert [t.agent_id for t in group.trajectories] == ["a", "b"] * 3
    parts = by_seat([group])
    assert [each.group_id for each in parts] == ["g#a", "g#b"]
    assert [len(each.trajectories) for each in parts] == [3, 3]
    assert [len(each.trajectories) for each in by_seat([group], "role")] == [6]
    assert by_seat([group], "team")[0].group_id == "g"
    metrics = seat_metrics(parts)
    assert (metrics["seat/a/success"], metrics["seat/b/return"], metrics["seat/b/turns"]) == (1.0, 0.5, 2.0)


def test_seats_are_configured_by_agent_or_role_but_not_by_both():
    agents = seats_of(ENV)
    assert agents == {"a": "switcher", "b": "switcher"}
    assert seats_of("tests.light_switch:LightSwitch") == {}
    one = {"a": SeatSection(policy="random")}
    assert seat_section("a", "switcher", one).policy == "random"
    assert seat_section("b", "switcher", one).policy == "trained"
    with pytest.raises(ConfigError, match="Two policies for one seat: 'a'"):
        check_seats(agents, {**one, "switcher": SeatSection()})
    with pytest.raises(ConfigError, match="The environment has no seat 'c'"):
        check_seats(agents, {"c": SeatSection()})


def test_a_request_goes_to_the_policy_that_it_names():
    policy = Routed(one=always("red"), two=always("blue"))
    request = SampleRequest("k", [1], 8, CHAT.stop_ids, policy="two")
    assert list(asyncio.run(policy.sample(request)).ids) == reply("blue")
    with pytest.raises(PolicyError, match="There is no policy 'three' here"):
        asyncio.run(policy.sample(replace(request, policy="three")))
    weights = {"one": {"w": np.ones(1)}, "two": {"w": np.zeros(1)}}
    assert split_weights(joined_weights(weights), ("one", "two")) == weights
