from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import StopReason
from agentgym_rft.errors import ConfigError, NumericsError, TokenMismatchError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context, Stage
from agentgym_rft.trainers.batch.groups import split_errors
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.metrics import logprob_drift
from agentgym_rft.trainers.learner.optimizer import are_finite, clipped_step, learning_rate, make_optimizer
from agentgym_rft.trainers.learner.scoring import make_scorer, score_rows
from tests.trainers.tiny import CFG, step, tiny_batch, tiny_groups, tiny_model, update, weights


def build(**section):
    return build_algorithm(AlgorithmSection(**section))


def noisy(table, seed=3):
    """The table with behaviour log-probs moved by up to 0.5 nats, so that some ratios are clipped and some are not."""
    noise = torch.rand(table.num_tokens, generator=torch.Generator().manual_seed(seed)) - 0.5
    return table.with_columns({"behaviour_logprobs": table.columns["behaviour_logprobs"] + noise})


def with_reference(table, rows):
    scores = score_rows(make_scorer(tiny_model(seed=9)), rows, table.num_tokens, 64)
    return table.with_columns({"ref_logprobs": scores.logprobs})


def moved(model, direction, distance):
    """A copy of the model, moved along a unit direction in the space of its weights."""
    model = copy.deepcopy(model)
    torch.nn.utils.vector_to_parameters(weights(model) + distance * direction, model.parameters())
    return model


SECTIONS = [
    {"kl_coef": 0.3, "kl_estimator": "k3", "entropy_coef": 0.1},
    {"kl_coef": 0.3, "kl_estimator": "k2", "aggregation": "sequence_mean", "clip_low": 0.1, "clip_high": 0.3},
    {"aggregation": "fixed_length", "fixed_length": 8, "entropy_coef": -0.2},
]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_gradient_is_the_finite_difference_of_the_loss_through_a_real_model(model, batch, section):
    table, rows = with_reference(noisy(batch[0]), batch[1]), batch[1]
    algorithm = build(options={"anchor": "behaviour"}, **section)
    gradient, metrics = step(model, table, rows, algorithm)
    assert 0 < metrics["ratio/clip_fraction"] < 1
    for seed in range(3):
        direction = torch.randn(len(gradient), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        direction /= direction.norm()
        values = [step(moved(model, direction, d), table, rows, algorithm)[1]["loss/total"] for d in (1e-5, -1e-5)]
        assert float(gradient @ direction) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)


def reinforce_gradient(model, rows, token_weight):
    """Gradient of -sum(weight * logprobs), from the full logits of unpadded rows."""
    model = copy.deepcopy(model)
    loss = 0.0
    for row in rows:
        log_probs = model(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        logprobs = log_probs[row.positions - 1, row.ids[row.positions]]
        loss = loss - (token_weight[row.index] * logprobs).sum()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_at_ratio_one_grpo_is_reinforce_with_its_advantages(model, batch):
    table, rows = batch
    algorithm = build()
    gradient, metrics = step(model, table, rows, algorithm)
    advantage = algorithm.prepare(table, Context()).columns["advantage"].double()
    torch.testing.assert_close(gradient, reinforce_gradient(model, rows, advantage / table.num_tokens))
    assert metrics["loss/policy"] == pytest.approx(-float(advantage.mean()))
    assert (metrics["ratio/min"], metrics["ratio/max"], metrics["kl/approx"]) == (1, 1, 0)


def test_the_single_step_without_an_extra_pass_equals_the_one_with_it(model, batch):
    table, rows = batch
    fast = build()

    def peek(table, context):
        assert {"old_logprobs", "entropy"} <= set(table.columns)
        return {"advantage": table.columns["advantage"]}

    advantage_transform = Stage(
        "peek", peek, frozenset({"advantage", "old_logprobs", "entropy"}), frozenset({"advantage"})
    )
    slow = replace(fast, advantage_transforms=(advantage_transform,))
    assert slow.scored_columns == {"old_logprobs", "entropy"}
    torch.testing.assert_close(step(model, table, rows, fast)[0], step(model, table, rows, slow)[0])


def test_sequence_ratios_give_gspos_own_gradient(model, batch):
    table, rows = noisy(batch[0]), batch[1]
    algorithm = build(name="gspo", clip_low=0.05, clip_high=0.05)
    algorithm = replace(algorithm, ratio=replace(algorithm.ratio, anchor="behaviour_logprobs"))
    advantage = algorithm.prepare(table, Context()).columns["advantage"].double()
    own = copy.deepcopy(model)
    logprobs = torch.zeros(table.num_tokens, dtype=torch.float64)
    for row in rows:
        log_probs = own(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        logprobs = logprobs.index_put(
            (torch.from_numpy(row.index),), log_probs[row.positions - 1, row.ids[row.positions]]
        )
    loss, num_clipped = 0.0, 0
    for trajectory in range(table.num_trajectories):
        here = table.trajectory == trajectory
        ratio = (logprobs[here] - table.columns["behaviour_logprobs"][here]).mean().exp()
        free, bounded = ratio * advantage[here][0], ratio.clamp(0.95, 1.05) * advantage[here][0]
        num_clipped += int(bounded < free)
        loss = loss - torch.minimum(free, bounded) / table.num_trajectories
    loss.backward()
    gradient, metrics = step(model, table, rows, algorithm)
    torch.testing.assert_close(gradient, torch.cat([p.grad.flatten() for p in own.parameters()]), rtol=1e-5, atol=1e-8)
    assert metrics["loss/policy"] == pytest.approx(loss.item(), rel=1e-5)
    assert 0 < num_clipped < table.num_trajectories


def test_rows_without_signal_need_no_backward_pass(model, batch):
    table, rows = batch
    algorithm = build()
    full = replace(algorithm, surrogate=replace(algorithm.surrogate, scales_with_advantage=False))
    some, some_metrics = step(model, table, rows, algorithm)
    all_, all_metrics = step(model, table, rows, full)
    torch.testing.assert_close(some, all_)
    assert some_metrics == pytest.approx(all_metrics)


def test_a_batch_without_any_signal_takes_no_step(model):
    table, rows = build_table(tiny_groups(model, [[1, 1], [0, 0]]), 0)
    change, metrics = step(model, table, rows, build())
    assert not change.any()
    assert (metrics["update/num_steps"], metrics["grad/norm"]) == (0, 0)
    assert metrics["entropy/mean"] > 0


def test_an_errored_trajectory_changes_neither_gradient_nor_baseline(model, batch):
    groups = tiny_groups(model)
    first = groups[0].trajectories[0]
    broken = replace(first, stop_reason=StopReason.ENV_ERROR, rewards={"task": 100.0})
    groups[0] = replace(groups[0], trajectories=(broken, *groups[0].trajectories))
    kept, errors = split_errors(groups)
    assert errors == {"env_error": 1}
    got, _ = step(model, *build_table(kept, 0), build())
    expected, _ = step(model, *batch, build())
    assert torch.equal(got, expected)


def test_a_batch_without_trained_tokens_is_refused(model):
    with pytest.raises(ValueError, match="no trained token"):
        step(model, build_table([], 0)[0], [], build())


def test_log_probs_that_are_not_the_samplers_stop_the_step(model, batch):
    table, rows = batch
    wrong = table.with_columns({"behaviour_logprobs": table.columns["behaviour_logprobs"] - 0.1})
    optimizer = make_optimizer(model, CFG)
    before = weights(model)
    for changes in ({}, {"num_epochs": 2}):
        cfg = CFG.model_copy(update=changes)
        with pytest.raises(TokenMismatchError, match=r"by 0\.1 nats on average"):
            update(make_scorer(model), optimizer, wrong, rows, build(), cfg, Context())
    assert torch.equal(weights(model), before)
    _, metrics = step(model, wrong, rows, build())
    assert metrics["drift/logprob_mean"] == pytest.approx(0.1, rel=1e-4)


def test_a_model_that_did_not_sample_the_rows_is_detected(batch):
    table, rows = batch
    other = tiny_model(seed=5)
    with pytest.raises(TokenMismatchError):
        update(make_scorer(other), make_optimizer(other, CFG), table, rows, build(), CFG, Context())


def test_drift_is_measured_on_policy_only(model):
    table, rows = build_table(tiny_groups(model), version=3)
    stale = table.with_columns({"behaviour_logprobs": table.columns["behaviour_logprobs"] - 5})
    optimizer = make_optimizer(copy.deepcopy(model), CFG)
    metrics = update(make_scorer(copy.deepcopy(model)), optimizer, stale, rows, build(), CFG, Context())
    assert metrics["drift/logprob_mean"] == metrics["drift/logprob_max"] == 0


def test_drift_by_hand():
    assert logprob_drift(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -2.0])) == (0.25, 0.5)


def test_a_gradient_that_is_not_finite_stops_the_run_and_changes_nothing(batch):
    model = tiny_model()
    scorer = make_scorer(model)
    before = weights(model)
    model.lm_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NumericsError, match="gradient norm"):
        update(scorer, make_optimizer(model, CFG), *batch, build(), CFG, Context())
    assert torch.equal(weights(model), before)


def test_weights_that_are_not_finite_after_a_step_stop_the_run():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=1e308)
    weight.grad = torch.ones(3)
    with pytest.raises(NumericsError, match=r"^After the update a weight is no finite number\. Lower trainer"):
        clipped_step(optimizer, 1.0)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_weights_are_finite_however_large_they_are(value):
    large = torch.full((40, 3), 3e38)  # the sum of their squares is not
    assert are_finite([large, torch.zeros(2)])
    large[7, 1] = value
    assert not are_finite([torch.zeros(2), large])


def test_a_missing_reference_is_refused_by_name(model, batch):
    with pytest.raises(ConfigError, match="'ref_logprobs'"):
        step(model, *batch, build(kl_coef=0.1))


def test_a_kl_penalty_alone_moves_the_policy_towards_the_reference(model, batch):
    rows = batch[1]
    table = with_reference(*batch)
    # Groups without signal leave only the penalty.
    flat = replace(table, trajectory_columns={**table.trajectory_columns, "episode_return": torch.zeros(9).double()})
    for estimator in ("k1", "k2", "k3"):
        _, before = step(model, flat, rows, build(kl_coef=1.0, kl_estimator="k2"))
        change, _ = step(model, flat, rows, build(kl_coef=1.0, kl_estimator=estimator))
        nearer = moved(model, -change / change.norm(), 1e-3)
        _, after = step(nearer, flat, rows, build(kl_coef=1.0, kl_estimator="k2"))
        assert after["loss/kl"] < before["loss/kl"]


def test_an_entropy_bonus_raises_entropy(model, batch):
    table, rows = batch
    flat = replace(table, trajectory_columns={**table.trajectory_columns, "episode_return": torch.zeros(9).double()})
    change, before = step(model, flat, rows, build(entropy_coef=1.0))
    _, after = step(moved(model, -change / change.norm(), 1e-2), flat, rows, build(entropy_coef=1.0))
    assert after["entropy/mean"] > before["entropy/mean"]
    assert before["loss/entropy"] == pytest.approx(-before["entropy/mean"])


def test_several_epochs_clip_and_keep_the_old_policy_as_anchor(model, batch):
    _, metrics = step(model, *batch, build(clip_low=0.01, clip_high=0.01), num_epochs=3)
    assert metrics["update/num_steps"] == 3
    assert metrics["ratio/clip_fraction"] > 0
    assert metrics["ratio/min"] < 1 < metrics["ratio/max"]
    assert metrics["kl/approx"] > 0


def test_an_update_raises_the_probability_of_what_was_rewarded():
    model = tiny_model()
    table, rows = tiny_batch(model)
    scorer = make_scorer(model)
    cfg = CFG.model_copy(update={"learning_rate": 1e-3})
    update(scorer, make_optimizer(model, cfg), table, rows, build(), cfg, Context())
    advantage = build().prepare(table, Context()).columns["advantage"]
    logprobs = score_rows(scorer, rows, table.num_tokens, 64).logprobs
    assert ((logprobs - table.columns["behaviour_logprobs"]) * advantage).sum() > 0


def test_gradient_clipping_bounds_the_step(model, batch):
    change, metrics = step(model, *batch, build(), max_grad_norm=1e-3)
    assert metrics["grad/norm"] > 1e-3
    assert float(change.norm()) == pytest.approx(1e-3, rel=1e-2)


def test_warm_up_is_linear_below_the_peak():
    cfg = CFG.model_copy(update={"learning_rate": 3.0, "warmup_steps": 2})
    assert [learning_rate(step, cfg) for step in range(4)] == pytest.approx([1, 2, 3, 3])
    assert learning_rate(0, CFG) == CFG.learning_rate


def test_only_matrices_decay(model):
    decayed, free = make_optimizer(model, CFG.model_copy(update={"weight_decay": 0.1})).param_groups
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in free["params"]} == {1}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_sizes_count_trained_and_all_tokens(model, batch):
    table, rows = batch
    _, metrics = step(model, table, rows, build())
    assert metrics["tokens/action"] == table.num_tokens
    assert metrics["tokens/total"] == sum(len(row.ids) for row in rows)
