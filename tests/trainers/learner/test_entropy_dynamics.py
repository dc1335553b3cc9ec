from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import TokenTable, build_table
from agentgym_rft.trainers.learner.entropy_dynamics import (
    WATCHED,
    discriminator_gap,
    dropped_fraction,
    dynamics,
    entropy_by_turn,
    entropy_by_type,
    logit_delta,
    policy_pull,
    quadrants,
)
from agentgym_rft.trainers.learner.scoring import make_scorer, score_rows
from tests.trainers.tiny import fixed_groups, step

PROBS = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)


def build(**section):
    return build_algorithm(AlgorithmSection(**section))


def scored(model, table, rows):
    """The table with what `dynamics` needs of the policy before the update."""
    scores = score_rows(make_scorer(model), rows, table.num_tokens, 64, WATCHED)
    return table.with_columns({"old_logprobs": scores.logprobs, **scores.columns})


def three_tokens() -> TokenTable:
    """One token of each id under `PROBS`."""
    table, _ = build_table(fixed_groups([[1, 0, 0]]), version=0)
    log_probs = PROBS.log()
    columns = {f.name: f.fn(log_probs[None], PROBS[None]).expand(3) for f in WATCHED}
    return table.with_columns({"old_logprobs": log_probs, **columns})


def test_the_gap_is_minus_the_change_of_entropy_along_a_tokens_logit_direction():
    gap = discriminator_gap(three_tokens())
    assert gap.tolist() == pytest.approx([0.140793, -0.332332, -0.320885], abs=1e-6)
    step = 1e-6
    for k in range(3):
        direction = torch.eye(3, dtype=torch.float64)[k] - PROBS
        moved = [torch.distributions.Categorical(logits=PROBS.log() + s * direction).entropy() for s in (step, -step)]
        assert -float(gap[k]) == pytest.approx(float(moved[0] - moved[1]) / (2 * step), rel=1e-6)
    assert float((PROBS * gap).sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_theorems_and_their_corollary_hold_at_the_logits_of_a_real_model(model, batch, temperature):
    """dH along a bump of one logit is -S_k, along e_k - p it is -(S_k - N), and E_k[S_k - N] = 0."""
    row = batch[1][0]
    logits = model(torch.from_numpy(row.ids)[None]).logits[0].detach() / temperature  # [L, V]
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    scores = probs * (WATCHED[0].fn(log_probs, probs)[:, None] + log_probs)
    mean = WATCHED[1].fn(log_probs, probs)
    assert float((probs * (scores - mean[:, None])).sum(-1).abs().max()) < 1e-10
    size = 1e-5
    for k in range(logits.shape[-1]):
        bump = torch.zeros_like(logits)
        bump[:, k] = size
        for direction, expected in ((bump, -scores[:, k]), (bump - size * probs, mean - scores[:, k])):
            ends = [torch.distributions.Categorical(logits=logits + sign * direction).entropy() for sign in (1, -1)]
            torch.testing.assert_close((ends[0] - ends[1]) / (2 * size), expected, rtol=1e-4, atol=1e-8)


def test_quadrants_by_hand():
    pull = torch.tensor([2.0, 1.0, -1.0, -4.0, 0.0, 3.0], dtype=torch.float64)
    gap = torch.tensor([0.5, -1.0, 1.0, -0.5, 9.0, 0.0], dtype=torch.float64)  # |changes| 1, 1, 1, 2, 0, 0
    metrics = quadrants(torch.cat([pull, pull[:1]]), torch.cat([gap, gap[:1]]))  # and 1 more in the first quadrant
    assert metrics == {
        "entropy/quadrant_tokens_pos_pos": pytest.approx(2 / 5),
        "entropy/quadrant_change_pos_pos": pytest.approx(2 / 6),
        "entropy/quadrant_tokens_pos_neg": pytest.approx(1 / 5),
        "entropy/quadrant_change_pos_neg": pytest.approx(1 / 6),
        "entropy/quadrant_tokens_neg_pos": pytest.approx(1 / 5),
        "entropy/quadrant_change_neg_pos": pytest.approx(1 / 6),
        "entropy/quadrant_tokens_neg_neg": pytest.approx(1 / 5),
        "entropy/quadrant_change_neg_neg": pytest.approx(2 / 6),
    }
    assert logit_delta(pull, gap) == pytest.approx(-(1 - 1 - 1 + 2))
    assert quadrants(torch.zeros(3), torch.ones(3)) == {}


@pytest.mark.parametrize("section", [{}, {"aggregation": "sequence_mean", "clip_low": 0.1, "clip_high": 0.1}])
def test_the_pull_of_grpo_is_its_weight_times_its_advantage(model, batch, section):
    algorithm = build(**section)
    table = algorithm.prepare(scored(model, *batch), Context())
    weights = algorithm.aggregation.fn(table, table.columns["counted"])
    torch.testing.assert_close(
        policy_pull(algorithm, table, Context()), (weights * table.columns["advantage"]).double(), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("name", ["grpo", "gspo", "turn_grpo"])
def test_the_pull_is_the_gradient_that_the_update_takes(model, batch, name):
    """With behaviour log-probs as the anchor some ratios are bounded; their gradient pulls at the weights."""
    table, rows = batch
    noise = torch.rand(table.num_tokens, generator=torch.Generator().manual_seed(1)) - 0.5
    table = table.with_columns({"behaviour_logprobs": table.columns["behaviour_logprobs"] + noise})
    algorithm = build(name=name, options={"anchor": "behaviour"} if name == "grpo" else {})
    gradient, metrics = step(model, table, rows, algorithm)
    assert (metrics["ratio/clip_fraction"] > 0) == (name == "grpo")
    pull = policy_pull(algorithm, algorithm.prepare(scored(model, table, rows), Context()), Context())
    model = copy.deepcopy(model)
    loss = torch.zeros((), dtype=torch.float64)
    for row in rows:
        log_probs = model(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        loss = loss - (pull[row.index] * log_probs[row.positions - 1, row.ids[row.positions]]).sum()
    loss.backward()
    assert gradient.norm() > 0
    torch.testing.assert_close(gradient, torch.cat([p.grad.flatten() for p in model.parameters()]))


def typed_groups() -> list[Group]:
    """Two main trajectories of two and one turns, and an auxiliary one, of two tokens a turn."""

    def trajectory(name: str, turns: int, won: bool) -> Trajectory:
        turn = Turn((1, 2), (3, 4), (-1.0, -1.0))
        stop = StopReason.SUCCESS if won else StopReason.FAILURE
        rewards = {"task": float(won)}
        return Trajectory("t", "g", name, (turn,) * turns, stop, rewards=rewards, info={"task_type": name})

    plain = replace(trajectory("c", 1, False), info={})
    return [Group("g", "t", (trajectory("a", 7, True), trajectory("b", 1, False), plain), (trajectory("a", 1, True),))]


def test_entropy_by_type_and_turn_by_hand():
    table, _ = build_table(typed_groups(), version=0, auxiliary=True)
    assert table.task_types == ("a", "b", "", "a")
    per_turn = torch.tensor([1.0, 2, 2, 2, 2, 5, 6, 10, 4, 100])  # seven turns of a, one each of b, c, the auxiliary
    table = table.with_columns({"entropy": per_turn.repeat_interleave(2)})
    assert entropy_by_type(table) == {"entropy/type_a": pytest.approx(20 / 7), "entropy/type_b": pytest.approx(10)}
    assert entropy_by_turn(table) == {
        "entropy/turn_0": pytest.approx(5),
        "entropy/turn_1_to_4": pytest.approx(2),
        "entropy/turn_5_to_9": pytest.approx(5.5),
    }


def test_dropped_tokens_are_counted_without_auxiliary_ones():
    table, _ = build_table(typed_groups(), version=0, auxiliary=True)
    mask = torch.ones(table.num_tokens)
    mask[:5] = mask[-2:] = 0
    assert dropped_fraction(table.with_columns({"mask": mask})) == pytest.approx(5 / 18)


def test_the_update_reports_the_same_dynamics_whether_it_scores_first_or_not(model, batch):
    """Clip_B with bounds that keep everything makes the update score the batch before training on it."""
    table, rows = batch
    lazy, scoring_first = build(), build(controls=({"name": "clip_b", "mu": 1e9},))
    assert not lazy.scored_columns
    assert scoring_first.scored_columns
    _, without = step(model, table, rows, lazy)
    assert not any(key.startswith("entropy/quadrant") for key in without)
    expected = dynamics(lazy, lazy.prepare(scored(model, table, rows), Context()), Context())
    assert expected["entropy/predicted_delta_logit"] != 0
    for algorithm in (lazy, scoring_first):
        _, metrics = step(model, table, rows, algorithm, entropy_dynamics=True)
        assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-6)
        assert metrics["filter/dropped_fraction"] == 0
        assert {key: metrics[key] for key in without} == pytest.approx(without, rel=1e-6, abs=1e-12)


def test_watching_the_entropy_does_not_change_the_weights(model, batch):
    table, rows = batch
    for cfg in ({}, {"num_minibatches": 2}):
        plain, _ = step(model, table, rows, build(), **cfg)
        watched, _ = step(model, table, rows, build(), entropy_dynamics=True, **cfg)
        assert torch.equal(plain, watched)
