"""The loop of imitation: the loss of a batch in micro-batches, the optimizer's steps, and what each step is reported as."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from agentgym_rft.config.sft import SftSection
from agentgym_rft.trainers.learner.optimizer import clipped_step
from agentgym_rft.trainers.learner.scoring import Scorer
from agentgym_rft.trainers.sft.batches import SftBatch
from agentgym_rft.trainers.sft.optimizer import schedule, set_rates

_ADVICE = "Lower sft.learning_rate and, with Muon, sft.matrix_learning_rate."

Report = Callable[[dict[str, float]], None]


@dataclass(slots=True)
class Done:
    """The work of a run so far."""

    steps: int = 0
    tokens: int = 0  # trained ones, which `sft.tokens` counts
    time_s: float = 0.0


def fit(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[SftBatch],
    section: SftSection,
    report: Report,
) -> int:
    """Train on batches until the token budget is spent or they end. Returns the number of optimizer steps."""
    done = Done()
    while done.tokens < section.tokens and (batch := next(batches, None)) is not None:
        report(train_step(scorer, optimizer, batch, section, done))
    return done.steps


def train_step(
    scorer: Scorer, optimizer: torch.optim.Optimizer, batch: SftBatch, section: SftSection, done: Done
) -> dict[str, float]:
    """Take one optimizer step and count it in `done`; returns its metrics. Raises `NumericsError`."""
    start = time.perf_counter()
    set_rates(optimizer, schedule(done.tokens / section.tokens, section))
    loss, action_loss = accumulate(scorer, batch, section.micro_batch_tokens or section.batch_tokens)
    norm = clipped_step(optimizer, section.max_grad_norm, f"It is that of step {done.steps + 1}. {_ADVICE}")
    taken = time.perf_counter() - start
    done.steps += 1
    done.tokens += batch.num_tokens
    done.time_s += taken
    return {
        "step": done.steps,
        "tokens/total": done.tokens,
        "loss/all": loss,
        "loss/action": action_loss,
        "grad/norm": norm,
        "update/learning_rate": optimizer.param_groups[-1]["lr"],
        "speed/tokens_per_s": batch.num_read / taken,
        "time_s": done.time_s,
    }


def accumulate(scorer: Scorer, batch: SftBatch, micro_batch_tokens: int) -> tuple[float, float]:
    """Add the gradient of a batch's loss, micro-batch by micro-batch.

    Returns the weighted mean negative log-likelihood of the predicted tokens, and the plain mean over action tokens
    (nats).
    """
    weights = (batch.weights / batch.weights.sum()).to(scorer.device)
    nll = torch.zeros_like(weights)
    for micro in scorer.deal(batch.rows, micro_batch_tokens):
        assert micro is not None, "one process trains"
        index = micro.index.to(scorer.device)
        with scorer.attending(micro):
            own = -scorer.score(micro, grad=True).logprobs
            (own * weights[index]).sum().backward()  # type: ignore[no-untyped-call]
        nll[index] = own.detach().to(nll.dtype)
    return float((nll * weights).sum()), float(nll[batch.is_action.to(scorer.device)].mean())
