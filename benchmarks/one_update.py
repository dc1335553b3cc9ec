"""One update of a model on a batch, outside a run: what `update_cost.py` and `parallel.py` measure."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from agentgym_rft.config.run import Config, TrainerSection
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.batch.packing import minibatches
from agentgym_rft.trainers.batch.table import Row, TokenTable
from agentgym_rft.trainers.learner.entropy_probe import EntropyProbe
from agentgym_rft.trainers.learner.group import LearnerGroup
from agentgym_rft.trainers.learner.learner import Learner
from agentgym_rft.trainers.learner.processes import ALONE
from agentgym_rft.trainers.learner.scoring import Scorer


def update(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    table: TokenTable,
    rows: Sequence[Row],
    algorithm: Algorithm,
    trainer: TrainerSection,
    step: int = 0,
) -> None:
    """Update a scorer's model as `train_step` does. With several processes, each calls it."""
    config = Config(trainer=trainer)
    probe = EntropyProbe(0, 0, trainer.micro_batch_tokens)
    learner = Learner(config, scorer.model, None, algorithm, scorer, None, None, optimizer, probe, None)
    learners = LearnerGroup(learner, ALONE, shares_model=True)
    learners.columns(table, rows, step)
    for part in minibatches(rows, trainer, seed=config.run.seed, step=step):
        learners.loss(part)
        learners.step()
    learners.metrics()
