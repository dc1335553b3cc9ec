"""Trains a model: holds model, optimizer and algorithm, and takes steps, saves and loads. Every process has one.

Every function here is called by all processes together, with the same arguments (see `group.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from agentgym_rft.config.run import Config
from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.policies import load_policy_model
from agentgym_rft.store.checkpoint import Checkpoint, restored, save_checkpoint
from agentgym_rft.store.trainer_state import assign
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.packing import Layout
from agentgym_rft.trainers.batch.table import Row, TokenTable
from agentgym_rft.trainers.learner.entropy_probe import Before, EntropyProbe
from agentgym_rft.trainers.learner.lora import Adapter, add_lora, sharing_copy
from agentgym_rft.trainers.learner.objective import Measured
from agentgym_rft.trainers.learner.optimizer import make_optimizer
from agentgym_rft.trainers.learner.parallelize import trained_module, wrapped
from agentgym_rft.trainers.learner.precision import is_bfloat16
from agentgym_rft.trainers.learner.processes import Ranks
from agentgym_rft.trainers.learner.scoring import Scorer, fitting_scorer, make_scorer
from agentgym_rft.trainers.learner.stored import adapter_writer, restore_trained, whole_model

_log = logging.getLogger(__name__)
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(slots=True)
class Update:
    """The batch that a process trains on, from its columns to its last step, and what was measured on the way."""

    table: TokenTable  # with every column that the loss needs
    rows: Sequence[Row]
    context: Context
    is_scored: bool  # the policy before the update was
    before: Before | None  # of the entropy probe
    drift: dict[str, float]
    passes: list[dict[str, float]] = field(default_factory=list)  # metrics of each minibatch
    measured: Measured | None = None  # of the last minibatch
    has_gradient: bool = False  # the last minibatch has one


@dataclass(slots=True)
class Learner:
    """The learner of one process.

    `model` is the loaded one, with adapters inside where these are trained, or sharded.
    """

    config: Config
    model: Any
    tokenizer: Any
    algorithm: Algorithm
    scorer: Scorer
    reference: Scorer | None
    teacher: Scorer | None
    optimizer: torch.optim.Optimizer
    probe: EntropyProbe
    adapter: Adapter | None
    update: Update | None = None  # what it is in the middle of

    @property
    def is_plain(self) -> bool:
        """True if the model's own state dict is the policy's: nothing is sharded and there are no adapters."""
        return self.adapter is None and not self.scorer.ranks.is_sharded


def make_learner(config: Config, algorithm: Algorithm, model: Any, tokenizer: Any, ranks: Ranks) -> Learner:
    """Return a learner around a freshly loaded model, which is changed in place (adapters, shares of the weights).

    Raises:
        ConfigError: the model, the algorithm and the settings under `trainer` do not go together.
        DataError, CheckpointError: the teacher cannot be used.
    """
    trainer = config.trainer
    bf16 = is_bfloat16(trainer.bf16, model.device)
    copied = (
        sharing_copy if trainer.lora.rank and ranks.size == 1 else deepcopy
    )  # with adapters the base weights do not change
    frozen = copied(model) if algorithm.needs_reference else None
    value_head = make_value_head(model) if algorithm.needs_critic else None
    adapter = add_lora(model, trainer.lora, config.run.seed)
    scorer = fitting_scorer(
        model,
        trainer.packing,
        _log.warning if ranks.rank == 0 else _log.debug,  # all processes find the same
        bf16=bf16,
        value_head=value_head,
        recompute=trainer.gradient_checkpointing,
    )
    reference = None
    if frozen is not None:
        frozen.requires_grad_(False)
        reference = make_scorer(frozen, bf16=bf16, layout=scorer.layout)
        reference = wrapped(reference, ranks, is_trained=False)
    teacher = make_teacher(config, model, tokenizer, scorer.layout) if algorithm.needs_teacher else None
    if algorithm.compares_with_teacher:
        scorer = replace(scorer, teacher=teacher)
    scorer = wrapped(scorer, ranks)
    return Learner(
        config=config,
        model=model,
        tokenizer=tokenizer,
        algorithm=algorithm,
        scorer=scorer,
        reference=reference,
        teacher=None if teacher is None else wrapped(teacher, ranks, is_trained=False),
        optimizer=make_optimizer(trained_module(scorer), trainer),
        probe=EntropyProbe(trainer.entropy_probe, config.run.seed, trainer.micro_batch_tokens),
        adapter=adapter,
    )


def make_teacher(config: Config, model: Any, tokenizer: Any, layout: Layout) -> Scorer:
    """Return the scorer of `algorithm.teacher`.

    Raises:
        DataError: it has another vocabulary than the policy, or cannot be used.
        CheckpointError: it is a run without a good checkpoint.
    """
    path = config.algorithm.teacher
    section = config.policy.model_copy(update={"path": path})
    teacher, own = load_policy_model(section, dtype=torch.float32)
    needed, found = (each.get_output_embeddings().weight.shape[0] for each in (model, teacher))
    if own.get_vocab() != tokenizer.get_vocab() or found < needed:
        raise DataError(
            f"The teacher '{path}' has another vocabulary than the policy ({found:,} tokens, the policy {needed:,}). "
            "Name one with the policy's tokenizer."
        )
    teacher.requires_grad_(False)
    scorer = make_scorer(teacher, bf16=is_bfloat16(config.trainer.bf16, teacher.device), layout=layout)
    return replace(scorer, vocabulary=needed)


def make_value_head(model: Any) -> nn.Linear:
    """Return a critic's head on the last hidden state of `model`. Every value is 0 at first."""
    head = nn.Linear(model.config.get_text_config().hidden_size, 1, device=model.device, dtype=model.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def policy_weights(learner: Learner) -> dict[str, Tensor]:
    """Return the policy's whole weights by the base model's names, adapters merged; {} in all processes but the first.

    Not copies, where the model holds them itself.
    """
    weights = _full_weights(learner)
    return weights if learner.adapter is None or not weights else learner.adapter.merged(weights)


def _full_weights(learner: Learner) -> dict[str, Tensor]:
    if learner.scorer.ranks.is_sharded:
        return cast(dict[str, Tensor], get_model_state_dict(learner.model, options=_FULL))
    return dict(learner.model.state_dict()) if learner.scorer.ranks.rank == 0 else {}


def save(learner: Learner, folder: Path, step: int, state: Mapping[str, Any], keep: int) -> None:
    """Write a checkpoint. `state` is what the first process adds to the learner's own. Raises StorageError."""
    own = {"algorithm": learner.algorithm.state_dict(), "probe": learner.probe.state_dict()}
    head = learner.scorer.value_head
    extra = {} if head is None else {"value_head": _head_weights(learner, head)}
    model, save_adapter = learner.model, None
    if not learner.is_plain:
        weights = _full_weights(learner)
        save_adapter = adapter_writer(learner.adapter, weights)
        if weights:
            model = whole_model(model, learner.adapter, weights)
    save_checkpoint(
        folder, step, model, learner.tokenizer, learner.optimizer, {**own, **state}, keep, extra, save_adapter
    )


def load(learner: Learner, checkpoint: Checkpoint) -> None:
    """Put a checkpoint back. Raises CheckpointError if it is of another model, optimizer or kind of training.

    The weight decay stays the configuration's, which a resumed run may change, as its learning rate.
    """
    decays = [group["weight_decay"] for group in learner.optimizer.param_groups]
    extra = restore_trained(checkpoint, learner.model, learner.adapter, learner.optimizer)
    for group, decay in zip(learner.optimizer.param_groups, decays, strict=True):
        group["weight_decay"] = decay
    head = learner.scorer.value_head
    with restored(checkpoint.path, "state"):
        if head is not None:
            for name, weight in head.state_dict().items():
                assign(weight, extra["value_head"][name])
        learner.algorithm.load_state_dict(checkpoint.state["algorithm"])
        learner.probe.load_state_dict(checkpoint.state["probe"])


def _head_weights(learner: Learner, head: nn.Module) -> dict[str, Tensor]:
    if learner.scorer.ranks.is_sharded:
        return cast(dict[str, Tensor], get_model_state_dict(head, options=_FULL))
    return dict(head.state_dict())
