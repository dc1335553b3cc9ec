"""Draws the tokens of the `hf` policy: all rows of a step at once, each with the random stream of its request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_SEED_MASK = (1 << 128) - 1


def request_uniforms(seed: int, count: int) -> list[float]:
    """Return `count` uniform numbers in [0, 1) that depend on `seed` alone; number i is for token i of the request.

    Philox is counter based, so that neighbouring seeds give unrelated streams without any warm-up. Negative seeds
    are taken modulo 2**128.
    """
    return [float(u) for u in np.random.Generator(np.random.Philox(key=seed & _SEED_MASK)).random(count)]


def sample_rows(
    logits: torch.Tensor, temperatures: Sequence[float], uniforms: Sequence[float]
) -> tuple[list[int], list[float]]:
    """Draw one token for each row. Returns the ids and their log-probs in nats at temperature 1.

    A row's id is the inverse of its own cumulative distribution at its own uniform number, summed in float64, so it
    does not depend on the other rows. Temperature 0 takes the most likely id (the lowest of equals). A row with NaN
    or infinite logits gives a log-prob that is not finite: the caller must check.

    Args:
        logits: [rows, vocabulary], any float type.
        temperatures: [rows], each >= 0.
        uniforms: [rows], each in [0, 1).
    """
    logprobs = torch.log_softmax(logits.float(), dim=-1)  # [R, V]
    ids = logprobs.argmax(dim=-1, keepdim=True)  # [R, 1]
    if any(temperatures):
        ids = torch.where(_column(temperatures, ids) > 0, _inverse_cdf(logprobs, temperatures, uniforms), ids)
    chosen = logprobs.gather(1, ids)
    return ids.squeeze(1).tolist(), chosen.squeeze(1).tolist()


def _inverse_cdf(logprobs: torch.Tensor, temperatures: Sequence[float], uniforms: Sequence[float]) -> torch.Tensor:
    """Return index of the first id whose cumulative probability exceeds the row's uniform number, [R, 1]."""
    scaled = logprobs.double() / _column([t if t > 0 else 1.0 for t in temperatures], logprobs)
    cumulative = scaled.softmax(dim=-1).cumsum(dim=-1)  # [R, V]
    target = _column(uniforms, logprobs) * cumulative[:, -1:]  # the sum is 1 up to rounding
    return torch.searchsorted(cumulative, target, right=True).clamp_(max=logprobs.shape[1] - 1)


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=like.device).unsqueeze(1)
