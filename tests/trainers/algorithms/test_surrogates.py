"""Losses beside PPO's: what bounds and importance weights do to value and gradient, by hand and through a model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import build_algorithm, losses
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import build_table, segment_sum
from tests.trainers.algorithms.test_losses import inputs
from tests.trainers.learner.test_update import moved, noisy, reinforce_gradient
from tests.trainers.tiny import fixed_groups, step, tiny_groups

BOUNDS = losses.fixed_bounds(0.2, 0.2)


def build(name, options=None, **section):
    return build_algorithm(AlgorithmSection(name=name, options=options or {}, **section))


def applied(surrogate, given):
    """Loss, clipped and the gradient with respect to the log-probs."""
    loss, is_clipped = surrogate.fn(given)
    (gradient,) = torch.autograd.grad(loss.sum(), given.logprobs)
    return loss.tolist(), is_clipped.tolist(), gradient.tolist()


def test_cispo_bounds_the_weight_of_a_token_and_drops_none():
    given = inputs([1.5, 1.5, 0.5, 0.5, 1.1], [1.0, -1.0, 1.0, -2.0, 2.0])
    loss, is_clipped, gradient = applied(losses.cispo(BOUNDS), given)
    weights = [1.2, 1.2, 0.8, 0.8, 1.1]
    assert gradient == pytest.approx([-w * a for w, a in zip(weights, [1, -1, 1, -2, 2], strict=True)])
    assert loss[0] == pytest.approx(-1.2 * math.log(1.5))
    assert is_clipped == [True, True, True, True, False]


def test_gppo_has_the_value_of_ppo_and_a_gradient_at_the_bounds():
    """The vector of the catalogue: r 1.5, A 1 gives -1.2 and -1.2; r 0.5, A -1 gives 0.8 and 0.8."""
    given = inputs([1.5, 0.5, 1.5, 0.5, 1.1], [1.0, -1.0, -1.0, 1.0, 2.0])
    loss, is_clipped, gradient = applied(losses.gppo(BOUNDS), given)
    assert loss == pytest.approx([-1.2, 0.8, 1.5, -0.5, -2.2])
    assert loss == pytest.approx(losses.clipped(BOUNDS).fn(given)[0].tolist())
    assert gradient == pytest.approx(loss)
    assert is_clipped == [True, True, False, False, False]


def test_dual_clip_stops_failures_that_became_much_likelier():
    given = inputs([4.0, 2.0, 4.0], [-2.0, -1.0, 1.0])
    loss, is_clipped, gradient = applied(losses.dual_clip(losses.gppo(BOUNDS), 3.0), given)
    assert loss == pytest.approx([6.0, 2.0, -1.2])
    assert gradient == pytest.approx([0.0, 2.0, -1.2])
    assert is_clipped == [True, False, True]


def test_topr_weighs_failures_with_the_truncated_ratio_of_their_unit():
    tokens = torch.tensor([3.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    given = inputs([0.5, 0.5, 2.0, 0.5], [1.0, -1.0, -1.0, 0.0], unit_tokens=tokens)
    _, is_clipped, gradient = applied(losses.topr(product=True), given)
    assert gradient == pytest.approx([-1.0, 0.125, 1.0, 0.0])
    assert is_clipped == [False, False, True, False]
    assert applied(losses.topr(product=False), given)[2] == pytest.approx([-1.0, 0.5, 1.0, 0.0])


def test_the_decoupled_objective_of_areal():
    """The vector of the catalogue: p .3, old .2, sampler .1, A 1: ratio 1.5 cut to 1.2, weight 2, loss -2.4."""
    table, _ = build_table(fixed_groups([[1, 0]]), 0)
    lps = {"old_logprobs": torch.tensor([0.2, 0.2]).log(), "behaviour_logprobs": torch.tensor([0.1, 0.4]).log()}
    for cap, weight in ((10.0, 2.0), (1.5, 1.5)):
        algorithm = build("grpo", {"scale": "none"}, behaviour_cap=cap)
        advantage = algorithm.prepare(table.with_columns(lps), Context()).columns["advantage"]
        assert advantage.tolist() == pytest.approx([0.5 * weight, -0.5 * 0.5])
        loss, _ = algorithm.surrogate.fn(inputs([1.5], [2 * float(advantage[0])]))
        assert loss.item() == pytest.approx(-1.2 * weight)


def test_the_behaviour_weight_is_the_mean_over_the_unit_of_the_ratio():
    table, _ = build_table(fixed_groups([[1, 0]], [[2, 1]]), 0)
    table = table.with_columns({"old_logprobs": torch.tensor([-0.8, -0.6, -1.0])})  # the sampler's are -1
    algorithm = build("gspo", behaviour_cap=10.0)
    got = algorithm.prepare(table, Context()).columns["advantage"]
    plain = build("gspo").prepare(table, Context()).columns["advantage"]
    assert (got / plain).tolist() == pytest.approx([math.exp(0.3), math.exp(0.3), 1.0])


def test_on_policy_the_behaviour_weight_is_one(model, batch):
    got, _ = step(model, *batch, build("grpo", behaviour_cap=2.0))
    torch.testing.assert_close(got, step(model, *batch, build("grpo"))[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "options"), [("grpo", {"anchor": "behaviour"}), ("topr", {})])
def test_a_behaviour_weight_is_refused_where_the_ratio_is_to_the_sampler(name, options):
    with pytest.raises(ConfigError, match=f"behaviour_cap is 2.0, but the ratio of '{name}' is to the sampler"):
        build(name, options, behaviour_cap=2.0)
    assert build("topr", {"anchor": "old"}, behaviour_cap=2.0).advantage_transforms[-1].name == "behaviour_weight"


# --- through a real model


def token_weights(algorithm, table):
    """Advantage times global weight of each token, and its ratio to the sampler under the model that sampled it."""
    prepared = algorithm.prepare(table, Context())
    weight = algorithm.aggregation.fn(prepared, prepared.columns["counted"]) * prepared.columns["mask"]
    return (prepared.columns["advantage"] * weight).double()


def to_sampler(algorithm):
    return replace(algorithm, ratio=replace(algorithm.ratio, anchor="behaviour_logprobs"))


def test_cispo_and_gppo_give_the_gradients_of_their_bounded_weights(model, batch):
    table, rows = noisy(batch[0]), batch[1]
    ratio = (batch[0].columns["behaviour_logprobs"] - table.columns["behaviour_logprobs"]).double().exp()
    bounded = ratio.clamp(0.8, 1.2)
    assert (bounded != ratio).any()
    for name, options in (("cispo", {}), ("gppo", {"positive_coef": 0})):
        algorithm = to_sampler(build(name, options))
        weights = token_weights(algorithm, table)
        stopped = ((weights > 0) & (ratio > 1.2)) | ((weights < 0) & (ratio < 0.8))
        factor = bounded if name == "cispo" else torch.where(stopped, bounded, ratio)
        got, metrics = step(model, table, rows, algorithm)
        torch.testing.assert_close(got, reinforce_gradient(model, rows, weights * factor), rtol=1e-5, atol=1e-7)
        assert metrics["ratio/clip_fraction"] > 0


def test_topr_gives_the_gradient_of_its_tapered_weights(model, batch):
    table, rows = noisy(batch[0]), batch[1]
    log_ratio = (batch[0].columns["behaviour_logprobs"] - table.columns["behaviour_logprobs"]).double()
    total = segment_sum(log_ratio, table.trajectory, table.num_trajectories)[table.trajectory]
    algorithm = build("topr")
    weights = token_weights(algorithm, table)
    factor = torch.where(weights < 0, total.exp().clamp_max(1), 1.0)
    got, _ = step(model, table, rows, algorithm)
    torch.testing.assert_close(got, reinforce_gradient(model, rows, weights * factor), rtol=1e-5, atol=1e-7)
    assert ((factor < 1) & (weights != 0)).any()


def test_on_policy_and_with_positives_only_topr_is_raft_up_to_its_scale(model):
    table, rows = build_table(tiny_groups(model, [[1, 1], [1, 1, 1]]), 0)
    raft, _ = step(model, table, rows, build("raft"))
    topr, _ = step(model, table, rows, build("topr"))
    torch.testing.assert_close(2 * topr, raft, rtol=1e-5, atol=1e-8)


def test_on_policy_bounds_play_no_role(model, batch):
    grpo, _ = step(model, *batch, build("grpo"))
    for name, options in (("cispo", {}), ("gppo", {"positive_coef": 0, "dual_clip": 3.0})):
        torch.testing.assert_close(step(model, *batch, build(name, options))[0], grpo, rtol=1e-5, atol=1e-8)


def test_opmd_is_grpo_without_std_divided_by_one_plus_tau(model, batch):
    grpo, _ = step(model, *batch, build("grpo", {"scale": "none"}))
    opmd, _ = step(model, *batch, build("opmd", {"tau": 3.0}))
    torch.testing.assert_close(4 * opmd, grpo, rtol=1e-5, atol=1e-8)
    asymre, _ = step(model, *batch, build("asymre", {"shift": 0.0}))
    torch.testing.assert_close(asymre, grpo, rtol=1e-5, atol=1e-8)


def test_gppo_imitates_what_was_won_in_a_mean_of_its_own(model, batch):
    plain, _ = step(model, *batch, build("gppo", {"positive_coef": 0}))
    both, metrics = step(model, *batch, build("gppo", {"positive_coef": 0.3}))
    sft, sft_metrics = step(model, *batch, build("sft"))
    torch.testing.assert_close(both - plain, 0.3 * sft, rtol=1e-4, atol=1e-7)
    assert metrics["loss/positive"] == pytest.approx(0.3 * sft_metrics["loss/policy"])


@pytest.mark.parametrize("name", ["asymre", "dapo", "mc_grpo", "opmd", "raft", "reinforce_pp"])
def test_the_gradient_is_the_finite_difference_of_the_loss(model, batch, name):
    table, rows = noisy(batch[0]), batch[1]
    algorithm = to_sampler(build(name, entropy_coef=0.1))
    gradient, _ = step(model, table, rows, algorithm)
    direction = torch.randn(len(gradient), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    direction /= direction.norm()
    values = [step(moved(model, direction, d), table, rows, algorithm)[1]["loss/total"] for d in (1e-5, -1e-5)]
    assert float(gradient @ direction) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)
