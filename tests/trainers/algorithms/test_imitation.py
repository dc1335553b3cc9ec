"""MIX and SPEAR: numbers by hand, and that a run takes in demonstrations and its own best episodes."""

from __future__ import annotations

import math

import pytest
import torch

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import Group
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.imitation import cosine_rise
from agentgym_rft.trainers.algorithms.losses import reinforce, scaled
from agentgym_rft.trainers.algorithms.parts import Context, LossInputs
from agentgym_rft.trainers.algorithms.regularizers import self_imitation
from agentgym_rft.trainers.batch.groups import imitated, shared_out, to_imitate
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.run import build
from agentgym_rft.trainers.sources.experts import Demonstrator
from tests.light_switch import LightSwitch
from tests.trainers.test_loop import assert_equal_weights, switch_config
from tests.trainers.tiny import step, tiny_groups
from tests.trainers.turns import group_of, prepared, turn


def inputs(logprobs, **columns):
    logprobs = torch.tensor(logprobs, requires_grad=True)
    return LossInputs(
        logprobs, logprobs, logprobs.detach(), {}, {name: torch.tensor(column) for name, column in columns.items()}
    )


def test_the_weight_of_self_imitation_rises_as_a_half_cosine():
    weight = cosine_rise(1.0, 200)
    assert [weight(Context(step=step)) for step in (0, 100, 200, 900)] == pytest.approx([0, 0.5, 1, 1])
    assert cosine_rise(0.1, 200)(Context(step=50)) == pytest.approx(0.05 * (1 - math.cos(math.pi / 4)))


def test_self_imitation_is_the_clipped_surrogate_with_the_recalibrated_advantage():
    """Ratios 1, 1.1, 1.5 and 0.5 to the sampler with A = 0.6, bounds 0.8 and 1.2."""
    ratios = [1.0, 1.1, 1.5, 0.5]
    given = inputs([math.log(r) - 1 for r in ratios], behaviour_logprobs=[-1.0] * 4, imitation=[0.6] * 4)
    loss = self_imitation(1.0, 0.2, 0.2).fn(given)
    assert loss.tolist() == pytest.approx([-0.6, -0.66, -0.72, -0.3], rel=1e-5)
    loss.sum().backward()
    assert given.logprobs.grad.tolist() == pytest.approx([-0.6, -0.66, 0.0, -0.3], rel=1e-5)


def test_an_advantage_is_recalibrated_by_the_median_of_group_means():
    """Means .2, .4 and .6 have the median .4: a return of 1 becomes .6 and one of .3, below it, is left out."""
    group = group_of([turn(1.0)], [turn(0.3)], [turn(0.0)])
    found = imitated([group], [0.2, 0.6, 0.4])
    assert [each.auxiliary[0].episode_id for each in found] == ["g0.0"]
    assert found[0].auxiliary[0].info["imitation"] == pytest.approx(0.6)
    assert found[0].trajectories == ()


def test_what_is_not_above_its_own_group_is_not_imitated():
    assert imitated([group_of([turn(1.0)], [turn(1.0)])], [0.0]) == []


def test_the_table_has_the_weight_of_every_trajectory():
    found = imitated([group_of([turn(2.0)], [turn()])], [0.5])
    table, _ = build_table(shared_out([group_of([turn()], [turn(1.0)]), *found]), 0, auxiliary=True)
    assert table.trajectory_columns["imitation"].tolist() == [1.0, 1.0, 1.5]
    assert table.trajectory_columns["auxiliary"].tolist() == [0.0, 0.0, 1.0]


def test_what_is_imitated_is_shared_out_among_the_groups_that_were_played():
    groups = [group_of([turn(1.0)], [turn()], group=f"g{number}", auxiliary=[turn()] * number) for number in range(2)]
    extra = [to_imitate(groups[0].trajectories[0]) for _ in range(3)]
    shared = shared_out([groups[0], *extra[:2], groups[1], extra[2]])
    assert [group.group_id for group in shared] == ["g0", "g1"]
    assert [len(group.auxiliary) for group in shared] == [2, 1 + 1]
    assert shared_out(groups) == groups
    assert shared_out(extra) == []


def test_mix_weighs_the_policy_loss_by_one_minus_mu_and_imitation_by_mu(model):
    """Gradient of MIX = (1 - mu) that of GRPO + mu that of the demonstrations' own mean."""
    groups = tiny_groups(model)
    demonstration = [to_imitate(groups[0].trajectories[0])]

    def gradient(name, batch, **options):
        algorithm = build_algorithm(AlgorithmSection(name=name, options=options))
        return step(model, *build_table(shared_out(batch), 0, auxiliary=algorithm.uses_auxiliary), algorithm)[0]

    policy = gradient("grpo", groups)
    only = gradient("mix", [*groups, *demonstration], mu=1.0)
    mixed = gradient("mix", [*groups, *demonstration], mu=0.25)
    torch.testing.assert_close(mixed, 0.75 * policy + 0.25 * only)
    flat = Group("g", "t", groups[0].trajectories[:1])
    imitation = gradient("sft", [flat], which="all")
    torch.testing.assert_close(only, imitation)


def test_a_scaled_surrogate_is_the_same_times_a_constant():
    given = inputs([-1.0, -2.0], advantage=[1.0, -0.5])
    loss, is_clipped = scaled(reinforce(), 0.5).fn(given)
    assert loss.tolist() == [0.5, -0.5]
    assert not is_clipped.any()


def test_without_anything_to_imitate_spear_is_grpo(model):
    groups = tiny_groups(model)
    table, rows = build_table(groups, 0, auxiliary=True)
    spear, grpo = (build_algorithm(AlgorithmSection(name=name)) for name in ("spear", "grpo"))
    torch.testing.assert_close(step(model, table, rows, spear)[0], step(model, table, rows, grpo)[0])
    assert prepared(spear, group_of([turn(1.0)], [turn()])).columns["advantage"][0] > 0


def switch(policy, out, algorithm, *, rollout=None, store=None, **trainer):
    data = switch_config(policy, out, **trainer).model_dump()
    data["rollout"] |= rollout or {}
    return validate_config(data | {"algorithm": algorithm, "store": store or {}})


def test_a_run_imitates_the_environments_expert(switch_policy, tmp_path):
    mix = {"name": "mix", "options": {"mu": 0.5}}
    config = switch(switch_policy, tmp_path / "run", mix, rollout={"experts": {"num": 3}}, steps=8, num_minibatches=8)
    result = train(config)
    rows = read_metrics(result.run_dir / "metrics.jsonl")
    assert {row["experts/num"] for row in rows} == {3.0}
    assert rows[-1]["loss/auxiliary"] < 0.5 * rows[0]["loss/auxiliary"]
    assert {row["episode/num"] for row in rows} == {32.0}
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.2


def test_the_demonstrations_of_a_step_follow_from_the_step_alone(switch_policy, tmp_path):
    config = switch(switch_policy, tmp_path, {"name": "mix"}, rollout={"experts": {"num": 2}})
    parts = build(config)
    try:
        givers = [Demonstrator(config, parts.workers.card, parts.workers.chat) for _ in range(2)]
        first, second = (
            [giver.demonstrations(step) for step in order]
            for giver, order in zip(givers, [(3, 4), (4, 3)], strict=True)
        )
        assert first == second[::-1]
        assert first[0] != first[1]
        assert all(each.won for each in first[0])
    finally:
        parts.source.close()
        parts.workers.close()


def test_an_environment_without_an_expert_is_refused(switch_policy, tmp_path):
    config = switch(switch_policy, tmp_path, {"name": "mix"}, rollout={"experts": {"num": 2}})
    lacking = config.model_copy(
        update={"env": config.env.model_copy(update={"id": "tests.trainers.algorithms.test_imitation:Plain"})}
    )
    with pytest.raises(ConfigError, match=r"rollout.experts.num=2: .* has no scripted expert"):
        build(lacking)


def test_a_run_imitates_its_own_best_episodes_and_goes_on_alike_when_it_is_resumed(switch_policy, tmp_path):
    spear = {"name": "spear", "options": {"imitation_coef": 0.5, "imitation_steps": 3}}
    store = {"replay_share": 0.5, "replay_as": "imitation", "rule": "priority", "max_uses": None, "max_staleness": 10}
    whole = train(switch(switch_policy, tmp_path / "whole", spear, store=store, steps=6))
    rows = read_metrics(whole.run_dir / "metrics.jsonl")
    assert [row["replay/share"] for row in rows] == pytest.approx([0.0] + [4 / 12] * 5)
    assert rows[0]["loss/imitation"] == 0
    assert all(row["loss/imitation"] < 0 for row in rows[2:])
    assert rows[-1]["replay/staleness_mean"] > 0
    for steps in (3, 6):
        config = switch(switch_policy, tmp_path / "parts", spear, store=store, steps=steps)
        train(config, resume=tmp_path / "parts" if steps == 6 else None)
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")
    account = ExperienceStore(tmp_path / "parts" / "experience.db").accounting()
    assert (account.written, account.used, account.unused) == (48, 48, 0)


class Plain(LightSwitch):
    """The switch, but nobody knows how to play it."""

    expert = TextEnv.expert
