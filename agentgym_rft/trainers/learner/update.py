"""One training step on a batch: score, prepare the global columns, then optimise over minibatches.

`update` is the only place that calls backward. The log-probs of the policy before the step (`old_logprobs`) need an
extra forward pass in two cases: with several optimizer steps a batch (if the surrogate has a ratio), or when a stage
needs them or the entropy first. In a single on-policy step they are the training pass's own, detached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.config.run import TrainerSection
from agentgym_rft.errors import TokenMismatchError
from agentgym_rft.trainers.algorithms.base import AUXILIARY, Algorithm
from agentgym_rft.trainers.algorithms.distribution_stats import DISTRIBUTION_STATS, ENTROPY, VALUE
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.algorithms.units import Unit
from agentgym_rft.trainers.batch.packing import MicroBatch
from agentgym_rft.trainers.batch.table import Row, TokenTable
from agentgym_rft.trainers.learner.entropy_dynamics import WATCHED, dropped_fraction, dynamics
from agentgym_rft.trainers.learner.objective import (
    Measured,
    Objective,
    minibatch_weights,
    new_measured,
    summed,
    token_indicator,
    unit_log_ratio,
)
from agentgym_rft.trainers.learner.optimizer import clipped_step, learning_rate, set_learning_rate
from agentgym_rft.trainers.learner.parallelize import backward_pass
from agentgym_rft.trainers.learner.scoring import Scorer, score_rows


def update(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    table: TokenTable,
    rows: Sequence[Row],
    algorithm: Algorithm,
    cfg: TrainerSection,
    context: Context,
) -> dict[str, float]:
    """Train the scorer's model on one batch; returns the metrics of the step.

    A minibatch in which no token has a gradient takes no optimizer step (`update/num_steps` counts those taken).

    Raises:
        ValueError: the batch has no trained token.
        ConfigError: the algorithm needs a column that is missing (for example `ref_logprobs`).
        TokenMismatchError: re-scored log-probs of on-policy tokens differ from the sampler's by more than
            `cfg.logprob_tolerance` on average.
        NumericsError: a gradient is not finite.
    """
    if not rows:
        raise ValueError("The batch has no trained token.")
    algorithm.validate(
        table.names | DISTRIBUTION_STATS.keys() | {"old_logprobs"} | ({VALUE} if scorer.value_head else set())
    )
    table = table.to(scorer.device)
    is_single = cfg.num_minibatches * cfg.num_epochs == 1
    drift: dict[str, float] = {}
    is_several = not is_single and (algorithm.surrogate.uses_ratio or cfg.entropy_dynamics)
    is_scored = is_several or bool(algorithm.scored_columns)
    if is_scored:
        table = _score_before(scorer, table, rows, algorithm, cfg)
        drift = check_drift(table, table.columns["old_logprobs"], cfg.logprob_tolerance)
    table = algorithm.prepare(table, context)
    rate = learning_rate(context.step, cfg)
    set_learning_rate(optimizer, rate)
    optimizer.zero_grad(set_to_none=True)
    steps: list[dict[str, float]] = []
    for part in minibatches(rows, cfg.num_minibatches, cfg.num_epochs, context):
        objective = _objective(scorer, table, part, algorithm, cfg, context)
        if cfg.entropy_dynamics and not is_scored:
            objective = replace(objective, watched=WATCHED)
        measured, has_gradient = _accumulate(scorer, objective, part, cfg.micro_batch_tokens)
        inside = token_indicator(table, part) > 0
        drift = drift or check_drift(table, measured.logprobs, cfg.logprob_tolerance, inside)
        metrics = pass_metrics(objective, measured, inside)
        if has_gradient:
            metrics["grad/norm"] = clipped_step(optimizer, cfg.max_grad_norm)
        steps.append(metrics)
    merged = merge_metrics(steps)
    algorithm.observe(table, merged)
    measures = {"filter/dropped_fraction": dropped_fraction(table)}
    if cfg.entropy_dynamics:
        before = table if is_scored else table.with_columns({"old_logprobs": measured.logprobs, **measured.columns})
        measures |= dynamics(algorithm, before, context)
    sizes = {"tokens/action": float(table.num_tokens), "tokens/total": float(sum(len(row.ids) for row in rows))}
    return {**merged, **drift, **measures, **sizes, "update/learning_rate": rate}


def minibatches(rows: Sequence[Row], num_minibatches: int, num_epochs: int, context: Context) -> list[list[Row]]:
    """The rows of each optimizer step.

    Every epoch deals out whole groups, shuffled by seed and step, in near-equal parts.

    With fewer groups than `num_minibatches` there are as many minibatches as groups.
    """
    groups = sorted({row.group for row in rows})
    parts: list[list[Row]] = []
    for epoch in range(num_epochs):
        order = groups
        if num_minibatches > 1:
            random = np.random.default_rng([context.seed, context.step, epoch])
            order = [groups[i] for i in random.permutation(len(groups))]
        for number in range(min(num_minibatches, len(groups))):
            chosen = set(order[number::num_minibatches])
            parts.append([row for row in rows if row.group in chosen])
    return parts


def logprob_drift(logprobs: Tensor, behaviour_logprobs: Tensor) -> tuple[float, float]:
    """Mean and largest absolute difference of re-scored and sampled log-probs, nats; (0, 0) for no tokens."""
    if not len(logprobs):
        return 0.0, 0.0
    difference = (logprobs - behaviour_logprobs).abs()
    return float(difference.mean()), float(difference.max())


def check_drift(
    table: TokenTable, logprobs: Tensor, tolerance: float, inside: Tensor | None = None
) -> dict[str, float]:
    """Drift metrics over the on-policy tokens, of those `inside` [N] bool if given.

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


def _score_before(
    scorer: Scorer, table: TokenTable, rows: Sequence[Row], algorithm: Algorithm, cfg: TrainerSection
) -> TokenTable:
    """The table with `old_logprobs` and the other columns that a part needs of the policy before the update."""
    watched = WATCHED if cfg.entropy_dynamics else ()
    distribution_stats = tuple(dict.fromkeys((*algorithm.stats_named(algorithm.scored_columns), *watched)))
    tokens = cfg.micro_batch_tokens
    scores = score_rows(scorer, rows, table.num_tokens, tokens, distribution_stats, value=algorithm.needs_critic)
    return table.with_columns({"old_logprobs": scores.logprobs, **scores.columns})


def _objective(
    scorer: Scorer, table: TokenTable, rows: Sequence[Row], algorithm: Algorithm, cfg: TrainerSection, context: Context
) -> Objective:
    """The loss of one minibatch. A ratio over turns or trajectories first needs the log-probs of whole units."""
    weights = minibatch_weights(algorithm, table, token_indicator(table, rows), context)
    is_single = cfg.num_minibatches * cfg.num_epochs == 1
    is_fresh = algorithm.ratio.anchor == "old_logprobs" and (is_single or "old_logprobs" not in table.columns)
    units: set[Unit] = {algorithm.ratio.unit, algorithm.ratio.clip_unit}
    log_ratios: dict[Unit, Tensor] = {}
    if not is_fresh and units != {"token"}:
        logprobs = score_rows(scorer, rows, table.num_tokens, cfg.micro_batch_tokens).logprobs
        log_ratios = {unit: unit_log_ratio(algorithm, table, logprobs, unit) for unit in units if unit != "token"}
    return Objective(algorithm, table, weights, is_fresh, log_ratios)


def _accumulate(scorer: Scorer, objective: Objective, rows: Sequence[Row], tokens: int) -> tuple[Measured, bool]:
    """Add the gradient of the minibatch's loss, micro-batch by micro-batch; whether there was any.

    Rows without a token that has a gradient (groups without signal) are only scored, for the metrics.
    """
    measured = new_measured(objective, scorer.dtype)
    token_has_gradient = objective.has_gradient()
    trained = [row for row in rows if token_has_gradient[row.index].any()]
    scored = [row for row in rows if not token_has_gradient[row.index].any()]
    batches = scorer.deal(trained, tokens)
    for number, batch in enumerate(batches):
        with backward_pass(scorer, batch, is_last=number == len(batches) - 1):
            loss = _loss(scorer, objective, batch, measured)
            loss.backward()  # type: ignore[no-untyped-call]
    for batch in scorer.deal(scored, tokens):
        if batch is None:
            scorer.idle(grad=False, value=objective.algorithm.needs_critic)
        else:
            objective.micro_batch(scorer, batch, measured, grad=False)
    return summed(measured, scorer.ranks), bool(trained)


def _loss(scorer: Scorer, objective: Objective, batch: MicroBatch | None, measured: Measured) -> Tensor:
    """This micro-batch's share of the loss; 0 for a pass without rows."""
    if batch is not None:
        return objective.micro_batch(scorer, batch, measured, grad=True)
    loss = scorer.idle(grad=True, value=objective.algorithm.needs_critic)
    assert loss is not None
    return loss


def pass_metrics(objective: Objective, measured: Measured, inside: Tensor) -> dict[str, float]:
    """Metrics of one pass over a minibatch whose tokens are `inside` [N] bool; auxiliary tokens count in none of them.

    `kl/approx` is the k3 estimate of KL(anchor || policy), nats a token; `ratio/clip_fraction` is over trained tokens.
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
    """One mapping from those of several optimizer steps: means, but the extremes of `ratio/min` and `ratio/max`.

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
