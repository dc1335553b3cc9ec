"""The loop of imitation: the loss of a batch in micro-batches, and the optimizer's steps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from agentgym_rft.config.sft import SftSection
from agentgym_rft.trainers.learner.memory import release_memory
from agentgym_rft.trainers.learner.optimizer import clipped_step
from agentgym_rft.trainers.sft.batches import SftBatch
from agentgym_rft.trainers.sft.optimizer import schedule, set_rates
from agentgym_rft.trainers.sft.trainee import Done, Trainee

_ADVICE = "Lower sft.learning_rate and, with Muon, sft.matrix_learning_rate."

Row = dict[str, float]  # of metrics


def steps(trainee: Trainee, batches: Iterator[SftBatch], done: Done) -> Iterator[Row]:
    """Train on batches until the budget is spent or they end; yield the metrics of each step, counted in `done`.

    Raises:
        NumericsError: a gradient is not finite. The weights are those of the step before.
    """
    while progress(done, trainee.section) < 1 and (batch := next(batches, None)) is not None:
        yield train_step(trainee, batch, done)


def progress(done: Done, section: SftSection) -> float:
    """Return the share of the budget that is spent: of tokens or of time, whichever is larger."""
    share = done.tokens / section.tokens
    return share if section.max_minutes is None else max(share, done.time_s / 60 / section.max_minutes)


def train_step(trainee: Trainee, batch: SftBatch, done: Done) -> Row:
    """Take one optimizer step and count it in `done`; returns its metrics. Raises `NumericsError`."""
    start, section, optimizer = time.perf_counter(), trainee.section, trainee.optimizer
    set_rates(optimizer, trainee.rates, schedule(progress(done, section), section))
    loss, action_loss = accumulate(trainee, batch)
    norm = clipped_step(optimizer, section.max_grad_norm, f"It is that of step {done.steps + 1}. {_ADVICE}")
    taken = time.perf_counter() - start
    done.steps += 1
    done.tokens += batch.num_tokens
    done.read += batch.num_read
    done.time_s += taken
    return {
        "step": done.steps,
        "progress": min(1.0, progress(done, section)),
        "tokens/total": done.tokens,
        "tokens/read": done.read,
        "loss/all": loss,
        "loss/action": action_loss,
        "grad/norm": norm,
        "update/learning_rate": optimizer.param_groups[-1]["lr"],
        "speed/tokens_per_s": batch.num_read / taken,
        "time_s": done.time_s,
    }


def accumulate(trainee: Trainee, batch: SftBatch) -> tuple[float, float]:
    """Add the gradient of a batch's loss, micro-batch by micro-batch.

    Returns the weighted mean negative log-likelihood of the predicted tokens, and the plain mean over action tokens
    (nats).
    """
    device, dtype = trainee.scorer.device, trainee.scorer.dtype
    weights = batch.weights.to(device, dtype)
    weights = weights / weights.sum()
    nll = torch.zeros_like(weights)
    for micro in trainee.scorer.deal(batch.rows, trainee.micro_batch_tokens):
        assert micro is not None, "there is one process, which has all micro-batches"
        scorer, index = trainee.scorer_of(micro), micro.index.to(device)
        with scorer.attending(micro):
            own = -scorer.score(micro, grad=True).logprobs
            (own * weights[index]).sum().backward()  # type: ignore[no-untyped-call]
        nll[index] = own.detach()
        release_memory(device)
    return float((nll * weights).sum()), float(nll[batch.is_action.to(device)].mean())
