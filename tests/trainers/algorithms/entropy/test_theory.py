"""The theory of entropy dynamics, by finite differences: arXiv 2602.03392, theorems 3.2 and 3.3 and corollaries."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym_rft.trainers.algorithms.distribution_stats import ENTROPY, MEAN_DISCRIMINATOR, entropy, mean_discriminator
from agentgym_rft.trainers.algorithms.losses import clipped, fixed_bounds
from agentgym_rft.trainers.batch.packing import pack
from agentgym_rft.trainers.learner.scoring import make_scorer
from tests.trainers.algorithms.entropy.entropy_tables import loss_inputs
from tests.trainers.tiny import tiny_batch, tiny_model

STEP = 1e-5
LOGITS = st.integers(0, 10**6)


def random_logits(seed, number=7):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(number, dtype=torch.float64, generator=generator)


def entropy_of(logits):
    log_probs = logits.log_softmax(-1)
    return entropy(log_probs, log_probs.exp())


def scores(logits):
    """S of every token and N."""
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    return probs * (entropy(log_probs, probs) + log_probs), mean_discriminator(log_probs, probs)


def slope(logits, direction):
    """Central difference of the entropy along a direction of the logits."""
    return (entropy_of(logits + STEP * direction) - entropy_of(logits - STEP * direction)) / (2 * STEP)


def policy_step(logits, token):
    """e_k - p."""
    direction = -logits.softmax(-1)
    direction[token] += 1
    return direction


def test_the_worked_example():
    logits = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
    s, n = scores(logits)
    assert float(entropy_of(logits)) == pytest.approx(0.801819, abs=1e-6)
    assert s.tolist() == pytest.approx([0.311601, -0.161524, -0.150077], abs=1e-6)
    assert float(n) == pytest.approx(0.170808, abs=1e-6)
    slopes = [float(slope(logits, policy_step(logits, k))) for k in range(3)]
    assert slopes == pytest.approx([-0.14079, 0.33233, 0.32089], abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(LOGITS)
def test_a_bump_of_one_logit_changes_entropy_by_minus_its_discriminator(seed):
    logits = random_logits(seed)
    s, _ = scores(logits)
    for token in range(len(logits)):
        bump = torch.zeros_like(logits).index_fill_(0, torch.tensor(token), 1.0)
        assert float(slope(logits, bump)) == pytest.approx(-float(s[token]), abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(LOGITS)
def test_a_policy_step_changes_entropy_by_minus_the_centred_discriminator(seed):
    logits = random_logits(seed)
    s, n = scores(logits)
    for token in range(len(logits)):
        assert float(slope(logits, policy_step(logits, token))) == pytest.approx(-float(s[token] - n), abs=1e-8)


def test_the_error_of_the_first_order_is_quadratic_in_the_step():
    logits = random_logits(3)
    s, n = scores(logits)
    direction = policy_step(logits, 2)

    def error(size):
        return float(entropy_of(logits + size * direction) - entropy_of(logits) + size * (s[2] - n))

    assert error(1e-2) / error(1e-3) == pytest.approx(100, rel=0.05)


@settings(max_examples=50, deadline=None)
@given(LOGITS)
def test_the_corollaries_hold_exactly(seed):
    logits = random_logits(seed)
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    s, n = scores(logits)
    assert float((probs * (s - n)).sum()) == pytest.approx(0, abs=1e-10)
    for token in range(len(logits)):
        direction = policy_step(logits, token)
        covariance = (probs * log_probs * direction).sum() - (probs * log_probs).sum() * (probs * direction).sum()
        assert float(covariance) == pytest.approx(float(s[token] - n), abs=1e-10)
    assert torch.equal(s > 0, probs > (-entropy_of(logits)).exp())  # the sign rule


@pytest.mark.parametrize("advantage", [1.5, -0.5])
def test_in_each_quadrant_a_step_of_the_grpo_surrogate_moves_entropy_as_predicted(advantage):
    logits = random_logits(5)
    s, n = scores(logits)
    assert (s > n).any()
    assert (s < n).any()
    for token in range(len(logits)):
        leaf = logits.clone().requires_grad_()
        logprobs = leaf.log_softmax(-1)[token : token + 1]
        given = loss_inputs(logprobs, advantage=torch.tensor([advantage], dtype=torch.float64))
        loss, _ = clipped(fixed_bounds(0.2, 0.2)).fn(given)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        change = entropy_of(logits - STEP * gradient) - entropy_of(logits)
        expected = -STEP * advantage * (s[token] - n)
        assert float(change) == pytest.approx(float(expected), rel=1e-3)
        assert (float(change) < 0) == ((advantage > 0) == bool(s[token] > n))


@pytest.fixture(scope="module")
def first_tokens():
    torch.set_num_threads(1)
    model = tiny_model()
    _, rows = tiny_batch(model)
    return model, rows[:3]


def scored_first(model, row):
    """Log-prob, entropy and N of the first trained token of a row, by the trainer's own scorer."""
    (batch,) = pack([row], 10**6)
    result = make_scorer(model).score(batch, (ENTROPY, MEAN_DISCRIMINATOR), grad=False)
    columns = result.columns
    return tuple(float(values[0]) for values in (result.logprobs, columns["entropy"], columns["mean_discriminator"]))


def hidden_before(model, row):
    """The vector that the head turns into the logits of the first trained token."""
    ids = torch.from_numpy(row.ids)[None, : int(row.positions[0])]
    with torch.no_grad():
        return model.base_model(input_ids=ids).last_hidden_state[0, -1]


def with_logits_moved(model, hidden, direction):
    """A copy of the model whose logits after `hidden` differ by `direction`."""
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.lm_head.weight += torch.outer(direction, hidden) / hidden.square().sum()
    return moved


@pytest.mark.parametrize("kind", ["bump", "policy step"])
def test_both_theorems_hold_through_a_real_models_logits(first_tokens, kind):
    model, rows = first_tokens
    for row in rows:
        hidden = hidden_before(model, row)
        logits = model.lm_head(hidden).detach()
        token = int(row.ids[row.positions[0]])
        logprobs, h, n = scored_first(model, row)
        s = float(torch.tensor(logprobs).double().exp()) * (h + logprobs)
        bump = torch.zeros_like(logits).index_fill_(0, torch.tensor(token), 1.0)
        direction, expected = (bump, -s) if kind == "bump" else (policy_step(logits, token), n - s)
        up = scored_first(with_logits_moved(model, hidden, STEP * direction), row)[1]
        down = scored_first(with_logits_moved(model, hidden, -STEP * direction), row)[1]
        assert (up - down) / (2 * STEP) == pytest.approx(expected, abs=1e-7)


def test_the_entropy_change_of_a_surrogate_step_on_a_models_head_is_predicted(first_tokens):
    model, rows = first_tokens
    advantage, rate = -1.0, 1e-5
    for row in rows:
        hidden = hidden_before(model, row)
        trained = copy.deepcopy(model)
        logprobs, h, n = scored_first(model, row)
        own_lp = trained.lm_head(hidden).log_softmax(-1)[[int(row.ids[row.positions[0]])]]
        loss, _ = clipped(fixed_bounds(0.2, 0.2)).fn(
            loss_inputs(own_lp, advantage=torch.tensor([advantage], dtype=torch.float64))
        )
        (gradient,) = torch.autograd.grad(loss.sum(), trained.lm_head.weight)
        with torch.no_grad():
            trained.lm_head.weight -= rate * gradient
        s = float(torch.tensor(logprobs).double().exp()) * (h + logprobs)
        predicted = -rate * float(hidden.square().sum()) * advantage * (s - n)
        assert scored_first(trained, row)[1] - h == pytest.approx(predicted, rel=0.02, abs=1e-10)
