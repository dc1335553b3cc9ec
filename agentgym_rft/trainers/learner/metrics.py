"""Metrics of an update: of each pass over a minibatch, of all of them together, and the drift from the sampler."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from agentgym_rft.errors import TokenMismatchError
from agentgym_rft.trainers.algorithms.base import AUXILIARY
from agentgym_rft.trainers.algorithms.distribution_stats import ENTROPY
from agentgym_rft.trainers.batch.table import Row, TokenTable
from agentgym_rft.trainers.learner.entropy_dynamics import dropped_fraction
from agentgym_rft.trainers.learner.objective import Measured, Objective


def logprob_drift(logprobs: Tensor, behaviour_logprobs: Tensor) -> tuple[float, float]:
    """Return mean and largest absolute difference of re-scored and sampled log-probs, nats; (0, 0) for no
    tokens.
    """
    if not len(logprobs):
        return 0.0, 0.0
    difference = (logprobs - behaviour_logprobs).abs()
    return float(difference.mean()), float(difference.max())


def check_drift(
    table: TokenTable, logprobs: Tensor, tolerance: float, inside: Tensor | None = None
) -> dict[str, float]:
    """Return the drift over the on-policy tokens, of those `inside` [N] bool if given.

    Raises `TokenMismatchError` if the mean is above the tolerance.
    """
    on_policy = table.token_column("on_policy") > 0
    if inside is not None:
        on_policy = on_policy & inside
    mean, largest = logprob_drift(logprobs[on_policy], table.columns["behaviour_logprobs"][on_policy])
    if not mean <= tolerance:  # also true for nan
        raise TokenMismatchError(
            f"Re-scored log-probs differ from the sampled ones by {mean:.4g} nats on average (largest {largest:.4g}), "
            f"more than trainer.logprob_tolerance={tolerance}. The trained rows are not what the policy saw."
        )
    return {"drift/logprob_mean": mean, "drift/logprob_max": largest}


def pass_metrics(objective: Objective, measured: Measured, inside: Tensor) -> dict[str, float]:
    """Return the metrics of one pass over a minibatch whose tokens are `inside` [N] bool.

    Auxiliary tokens count in none of them. `kl/approx` is the k3 estimate of KL(anchor || policy), nats a token;
    `ratio/clip_fraction` is over trained tokens.
    """
    inside = inside & (objective.table.token_column(AUXILIARY) == 0)
    log_ratio = measured.log_ratio[inside]
    ratio = log_ratio.exp()
    trained = inside & (objective.table.columns["mask"] != 0)
    clip_fraction = measured.is_clipped[trained].float().mean() if trained.any() else ratio.new_zeros(())
    losses = {f"loss/{name}": float(loss) for name, loss in measured.losses.items()}
    return {
        **losses,
        "loss/total": sum(losses.values()),
        "entropy/mean": float(measured.columns[ENTROPY.name][inside].mean()),
        "ratio/clip_fraction": float(clip_fraction),
        "ratio/min": float(ratio.min()),
        "ratio/max": float(ratio.max()),
        "kl/approx": float((ratio - 1 - log_ratio).mean()),
    }


def merge_metrics(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return one mapping from those of several optimizer steps: means, but the extremes of `ratio/min` and `ratio/max`.

    `update/num_steps` counts the steps that had a gradient; `grad/norm` is 0 if none had.
    """
    taken = [metrics["grad/norm"] for metrics in steps if "grad/norm" in metrics]
    names = [name for name in steps[0] if name != "grad/norm"]
    merged = {name: sum(metrics[name] for metrics in steps) / len(steps) for name in names}
    merged["ratio/min"] = min(metrics["ratio/min"] for metrics in steps)
    merged["ratio/max"] = max(metrics["ratio/max"] for metrics in steps)
    merged["grad/norm"] = sum(taken) / len(taken) if taken else 0.0
    merged["update/num_steps"] = float(len(taken))
    return merged


def batch_metrics(table: TokenTable, rows: Sequence[Row]) -> dict[str, float]:
    """Return how many tokens of a prepared table are trained, how many were read for them, and the filters' share."""
    return {
        "filter/dropped_fraction": dropped_fraction(table),
        "tokens/action": float(table.num_tokens),
        "tokens/total": float(sum(len(row.ids) for row in rows)),
    }
