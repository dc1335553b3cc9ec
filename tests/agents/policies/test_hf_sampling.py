"""Tokens are drawn from the softmax at the request's temperature, log-probs are those at temperature 1."""

from __future__ import annotations

import math

import pytest
import torch

from agentgym_rft.agents.policies.sampling import request_uniforms, sample_rows

LOGITS = [0.0, math.log(2.0), math.log(5.0), float("-inf"), math.log(2.0)]  # probabilities 0.1, 0.2, 0.5, 0, 0.2


def draw(temperature: float, count: int) -> tuple[list[int], list[float]]:
    return sample_rows(torch.tensor([LOGITS] * count), [temperature] * count, request_uniforms(11, count))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_match_the_softmax_at_the_temperature(temperature: float) -> None:
    count = 20_000
    ids, _ = draw(temperature, count)
    expected = (torch.tensor(LOGITS, dtype=torch.float64) / temperature).softmax(0) * count
    observed = torch.bincount(torch.tensor(ids), minlength=5).double()
    assert observed[3] == 0
    seen = expected > 0
    chi_square = float(((observed - expected)[seen] ** 2 / expected[seen]).sum())
    assert chi_square < 16.3  # 99.9 % quantile at 3 degrees of freedom


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_logprobs_are_those_at_temperature_one(temperature: float) -> None:
    ids, logprobs = draw(temperature, 50)
    probabilities = [0.1, 0.2, 0.5, 0.0, 0.2]
    assert [math.exp(value) for value in logprobs] == pytest.approx([probabilities[i] for i in ids], abs=1e-6)


def test_temperature_zero_takes_the_most_likely_id() -> None:
    assert set(draw(0.0, 50)[0]) == {2}


def test_inverse_cdf_by_hand() -> None:
    logits = torch.tensor([LOGITS] * 6)
    ids, _ = sample_rows(logits, [1.0] * 6, [0.0, 0.09, 0.11, 0.29, 0.79, 0.81])
    assert ids == [0, 0, 1, 1, 2, 4]


def test_the_largest_uniform_never_takes_an_impossible_last_id() -> None:
    logits = torch.tensor([[0.3, 0.1, 0.7, float("-inf")]])
    assert sample_rows(logits, [1.0], [math.nextafter(1.0, 0.0)])[0] == [2]


def test_rows_of_different_temperature_do_not_touch_each_other() -> None:
    logits = torch.tensor([LOGITS, LOGITS, LOGITS])
    mixed, _ = sample_rows(logits, [0.0, 1.0, 2.0], [0.05, 0.05, 0.95])
    single = [sample_rows(logits[:1], [t], [u])[0][0] for t, u in [(0.0, 0.05), (1.0, 0.05), (2.0, 0.95)]]
    assert mixed == single


def test_a_row_of_nan_gives_a_logprob_that_is_not_finite() -> None:
    logits = torch.tensor([LOGITS, [float("nan")] * 5])
    ids, logprobs = sample_rows(logits, [1.0, 1.0], [0.3, 0.3])
    assert ids[0] == 2
    assert [math.isfinite(value) for value in logprobs] == [True, False]


def test_uniforms_depend_on_the_seed_alone_and_a_longer_request_extends_a_shorter() -> None:
    assert request_uniforms(5, 10)[:4] == request_uniforms(5, 4)
    assert request_uniforms(5, 4) != request_uniforms(6, 4)
    assert len(request_uniforms(-1, 3)) == 3
    assert all(0.0 <= u < 1.0 for u in request_uniforms(2**70, 100))


def test_neighbouring_seeds_are_not_correlated() -> None:
    first = torch.tensor([request_uniforms(seed, 2) for seed in range(4000)], dtype=torch.float64)
    assert float(first.mean()) == pytest.approx(0.5, abs=0.02)
    assert abs(float(torch.corrcoef(torch.stack([first[:-1, 0], first[1:, 0]]))[0, 1])) < 0.05
    assert abs(float(torch.corrcoef(first.T)[0, 1])) < 0.05
