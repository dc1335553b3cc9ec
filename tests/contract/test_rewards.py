"""What the turns of a trajectory were paid and its named rewards are one sum, whatever plays and whatever adds."""

from __future__ import annotations

import math

import pytest

from agentgym_rft.rollouts.strategies import STRATEGIES
from agentgym_rft.trainers.algorithms.operators import OPERATORS, apply_operators, build_operators
from tests.trainers.learner.test_per_policy import opened, team_config

ALONE = {"env": {"id": "tests.light_switch:LightSwitch"}, "team": {"weights": "shared"}}
TEAM = {"env": {"id": "tests.team_switch:TeamSwitch"}, "team": {"weights": "shared", "reward_share": 0.3}}
OPTIONS = {
    "length_penalty": {"coef": 0.3},
    "clip_reward": {"low": 0.1, "high": 0.7},
    "overlong_penalty": {"limit": 3, "unit": "turns"},
}


def assert_one_sum(groups):
    trajectories = [each for group in groups for each in (*group.valid, *group.auxiliary)]
    assert any(each.episode_return for each in trajectories)
    for each in trajectories:
        assert math.isclose(sum(turn.reward for turn in each.turns), each.episode_return, abs_tol=1e-12), each


@pytest.mark.parametrize("sections", [ALONE, TEAM], ids=["alone", "team"])
@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_rewards_are_one_sum_under_every_strategy_and_after_every_operator(switch_policy, tmp_path, sections, strategy):
    rollout = {"num_tasks": 10, "group_size": 4, "max_steps": 9, "invalid_penalty": 0.1, "strategy": strategy}
    counterfactual = {"by": "policy", "coef": 0.7}
    team = {**sections["team"], **({"counterfactual": counterfactual} if strategy == "counterfactual" else {})}
    parts = opened(team_config(switch_policy, tmp_path, env=sections["env"], rollout=rollout, team=team))
    groups = parts.source.batch(0).groups
    parts.workers.close()
    assert_one_sum(groups)
    assert OPTIONS.keys() <= set(OPERATORS)
    for name in OPERATORS:
        operator = build_operators([{"name": name, **OPTIONS.get(name, {})}])
        kept, _ = apply_operators(operator * 2, groups)
        if kept:
            assert_one_sum(kept)
