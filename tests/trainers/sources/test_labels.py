"""An expert's actions at the states that a policy reached: by hand, in real games, and a run that learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.errors import ConfigError, EnvError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.run import build
from agentgym_rft.trainers.sources.labels import expert_actions, labelled
from tests.light_switch import COLOURS, LightSwitch
from tests.trainers.test_loop import switch_config
from tests.trainers.tiny import step, tiny_groups

REPLIES = {"left": (20, 9), "right": (21, 9)}


class Red:
    """Says red, which is right."""

    def act(self, observation: str) -> str:
        return COLOURS[0]


class Advised(LightSwitch):
    """Its expert can go on after somebody else."""

    def resumed_expert(self, observation: str, steps: Sequence[tuple[str, str]], suggestion: str) -> Red:
        return Red()


def said(action: str, *context: int, restart: bool = False) -> Turn:
    return Turn(context, REPLIES[action], (-1.0, -1.0), restart=restart, info={"action": action})


def episode(*turns: Turn) -> Trajectory:
    return Trajectory("task", "g", "e", turns, StopReason.FAILURE, rewards={"env": 0.0})


def trained(trajectories: Sequence[Trajectory]) -> list[tuple[list[int], list[int]]]:
    """The rows of some trajectories, each with its trained tokens."""
    _, rows = build_table([Group("g", "task", tuple(trajectories))], 0)
    return [(row.ids.tolist(), row.ids[row.positions].tolist()) for row in rows]


def test_an_episode_is_trained_where_it_agrees_and_branches_off_where_it_does_not():
    played = episode(said("left", 1, 2), said("right", 3), said("left", 4))
    found, agreeing = labelled(played, ["left", "left", "left"], REPLIES.__getitem__)
    assert agreeing == 2
    assert trained(found) == [
        ([1, 2, 20, 9, 3, 21, 9, 4, 20, 9], [20, 9, 20, 9]),
        ([1, 2, 20, 9, 3, 20, 9], [20, 9]),
    ]
    assert [each.episode_id for each in found] == ["e", "e/label.1"]


def test_a_branch_of_a_history_that_was_written_anew_begins_with_its_own_row():
    played = episode(said("left", 1), said("left", 5, 6, restart=True), said("right", 7))
    found, agreeing = labelled(played, ["right", "left", "left"], REPLIES.__getitem__)
    assert agreeing == 1
    assert trained(found) == [
        ([5, 6, 20, 9], [20, 9]),
        ([1, 21, 9], [21, 9]),
        ([5, 6, 20, 9, 7, 20, 9], [20, 9]),
    ]


def test_a_state_that_the_episode_comes_back_to_is_learnt_from_once():
    turns = (said("left", 1), said("left", 2), said("right", 3), said("right", 4))
    played = episode(*(replace(turn, state_key=key) for turn, key in zip(turns, "abab", strict=True)))
    found, agreeing = labelled(played, ["left", "right", "right", "right"], REPLIES.__getitem__)
    assert agreeing == 3
    assert trained(found) == [([1, 20, 9], [20, 9]), ([1, 20, 9, 2, 21, 9], [21, 9])]


def test_where_nothing_agrees_only_the_experts_actions_are_trained():
    found, agreeing = labelled(episode(said("left", 1)), ["right"], REPLIES.__getitem__)
    assert (agreeing, trained(found)) == (0, [([1, 21, 9], [21, 9])])


def test_where_the_policy_always_agrees_dagger_is_imitation(model):
    groups = tiny_groups(model)
    kept = [
        replace(group, trajectories=tuple(labelled(t, [""] * len(t.turns), tuple)[0][0] for t in told(group)))
        for group in groups
    ]
    dagger, sft = (build_algorithm(AlgorithmSection(name=name, options=own)) for name, own in CHOICES)
    assert dagger.learns_labels
    assert (step(model, *build_table(kept, 0), dagger)[0] == step(model, *build_table(groups, 0), sft)[0]).all()


CHOICES = (("dagger", {}), ("sft", {"which": "all"}))


def told(group: Group) -> list[Trajectory]:
    """Return the trajectories of a group with an action in each turn."""
    return [replace(t, turns=tuple(replace(turn, info={"action": ""}) for turn in t.turns)) for t in group.trajectories]


def test_the_alfworld_expert_says_at_every_turn_of_its_own_episodes_what_it_did():
    env = ALFWorldEnv()
    for task_id in env.task_ids("valid_unseen")[:20]:
        observation, _ = env.reset(options={"task_id": task_id})
        expert, turns, is_over = env.expert(observation, np.random.default_rng(0)), [], False
        while not is_over:
            action = expert.act(observation)
            turns.append(Turn((1,), (2,), (-1.0,), info={"action": action, "observation": observation}))
            observation, _, won, cut, _ = env.step(action)
            is_over = won or cut
        trajectory = Trajectory(task_id, "g", task_id, tuple(turns), StopReason.SUCCESS, rewards={"env": 1.0})
        assert expert_actions(env, trajectory) == [turn.info["action"] for turn in turns]


def test_an_environment_whose_expert_cannot_go_on_after_others_is_refused(switch_policy, tmp_path):
    config = config_of(switch_policy, tmp_path, "tests.light_switch:LightSwitch")
    with pytest.raises(ConfigError, match=r"algorithm.name=dagger: .* has no expert that goes on after somebody else"):
        build(config)


def config_of(policy, out, env: str, **trainer):
    data = switch_config(policy, out, **trainer).model_dump()
    data["env"]["id"] = env
    data["rollout"]["group_size"] = 1
    return validate_config(data | {"algorithm": {"name": "dagger"}})


def test_a_run_learns_what_the_expert_would_have_done(switch_policy, tmp_path):
    config = config_of(
        switch_policy, tmp_path / "run", "tests.trainers.sources.test_labels:Advised", steps=8, num_minibatches=2
    )
    result = train(config)
    rows = read_metrics(result.run_dir / "metrics.jsonl")
    assert rows[-1]["experts/agreement"] > rows[0]["experts/agreement"] + 0.2
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.2


class Moody(Advised):
    """Its states are never those that they were."""

    def _info(self) -> dict[str, Any]:
        return {**super()._info(), "state_key": "elsewhere"}


def test_an_episode_that_cannot_be_replayed_is_an_error():
    turns = tuple(Turn((1,), (2,), (-1.0,), state_key=key, info={"action": "red"}) for key in ("2", "1"))
    trajectory = Trajectory("4", "g", "e", turns, StopReason.SUCCESS, rewards={"env": 1.0})
    assert expert_actions(Advised(), trajectory) == ["red", "red"]
    with pytest.raises(EnvError, match="Turn 0 of e was in another state when it was replayed"):
        expert_actions(Moody(), trajectory)
