"""The model in training: its scorer, optimizer and adapters, and how checkpoints keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.config.sft import SftSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.store.checkpoint import load_checkpoint, save_checkpoint
from agentgym_rft.trainers.batch.packing import Layout, MicroBatch
from agentgym_rft.trainers.learner.lora import Adapter, add_lora
from agentgym_rft.trainers.learner.scoring import Scorer, make_scorer, recomputable_layers
from agentgym_rft.trainers.learner.stored import adapter_writer, restore_trained, whole_model
from agentgym_rft.trainers.sft.optimizer import make_optimizer

Note = Callable[[str], None]


@dataclass(slots=True)
class Done:
    """The work of a run so far, as its checkpoints keep it."""

    steps: int = 0
    tokens: int = 0  # trained ones, which `sft.tokens` counts
    time_s: float = 0.0  # of the steps alone


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model in training. `tight` scores what is longer than a micro-batch should be, with less memory."""

    scorer: Scorer
    tight: Scorer
    optimizer: torch.optim.Optimizer
    rates: tuple[float, ...]  # of the optimizer's groups, before the schedule
    adapter: Adapter | None
    section: SftSection

    @property
    def micro_batch_tokens(self) -> int:
        return self.section.micro_batch_tokens or self.section.batch_tokens

    def scorer_of(self, micro: MicroBatch) -> Scorer:
        """Return what scores a micro-batch."""
        return self.tight if micro.input_ids.numel() > self.micro_batch_tokens else self.scorer

    def policy_model(self) -> Any:
        """Return the model as a policy: adapters merged. It shares memory with the one in training."""
        model = self.scorer.model
        return model if self.adapter is None else whole_model(model, self.adapter, model.state_dict())

    def save(self, folder: Path, done: Done, tokenizer: Any, keep: int) -> None:
        """Write a checkpoint. Raises StorageError."""
        state = {"tokens": done.tokens, "time_s": done.time_s}
        writer = adapter_writer(self.adapter, self.scorer.model.state_dict())
        model = self.policy_model()
        save_checkpoint(folder, done.steps, model, tokenizer, self.optimizer, state, keep, save_adapter=writer)

    def restore(self, folder: Path) -> Done:
        """Put the newest good checkpoint of a folder back; returns what was done by then. Raises CheckpointError."""
        checkpoint = load_checkpoint(folder)
        restore_trained(checkpoint, self.scorer.model, self.adapter, self.optimizer)
        return Done(checkpoint.step, int(checkpoint.state["tokens"]), float(checkpoint.state["time_s"]))


def make_trainee(model: Any, section: SftSection, seed: int, note: Note = lambda message: None) -> Trainee:
    """Return a freshly loaded model, changed in place, ready for training.

    Args:
        note: is told what the model cannot do, where the section lets it choose (`auto`).
    Raises:
        ConfigError: the model cannot do what the section asks for.
    """
    with _keys_of_sft():
        adapter = add_lora(model, section.lora, seed)
        scorer = _make_scorer(model, section, note)
        layers = _layers(model, note) if section.gradient_checkpointing == "auto" else scorer.recomputed
    tight = replace(scorer, recomputed=layers)
    optimizer = make_optimizer(model, section)
    rates = tuple(float(group["lr"]) for group in optimizer.param_groups)
    return Trainee(scorer, tight, optimizer, rates, adapter, section)


def _make_scorer(model: Any, section: SftSection, note: Note) -> Scorer:
    is_recomputed = section.gradient_checkpointing is True

    def make(layout: Layout) -> Scorer:
        return make_scorer(model, bf16=section.bf16, layout=layout, recompute=is_recomputed)

    if section.packing != "auto":
        return make(section.packing)
    try:
        return make("packed")
    except ConfigError as error:
        note(f"Rows are padded. {error}")
        return make("padded")


def _layers(model: Any, note: Note) -> tuple[torch.nn.Module, ...]:
    try:
        return recomputable_layers(model)
    except ConfigError as error:
        note(f"Rows longer than sft.micro_batch_tokens need more memory. {error}")
        return ()


@contextmanager
def _keys_of_sft() -> Iterator[None]:
    """Name the keys of `agentgym sft` in refusals of the parts that it shares with `agentgym train`."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error).replace("trainer.", "sft.")) from error
