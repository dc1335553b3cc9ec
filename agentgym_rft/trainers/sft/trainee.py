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
from agentgym_rft.store.checkpoint import load_checkpoint, restored, save_checkpoint
from agentgym_rft.trainers.batch.packing import MicroBatch
from agentgym_rft.trainers.learner.lora import Adapter, add_lora
from agentgym_rft.trainers.learner.precision import is_bfloat16
from agentgym_rft.trainers.learner.scoring import Scorer, fitting_scorer, recomputable_layers
from agentgym_rft.trainers.learner.stored import adapter_writer, restore_trained, whole_model
from agentgym_rft.trainers.sft.optimizer import make_optimizer

Note = Callable[[str], None]


@dataclass(slots=True)
class Done:
    """The work of a run so far, as its checkpoints keep it."""

    steps: int = 0
    tokens: int = 0  # trained ones, which `sft.tokens` counts
    read: int = 0  # those of all rows
    time_s: float = 0.0  # of the steps alone


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model in training. `layers` are those that may be computed again in the backward pass to save memory."""

    scorer: Scorer
    layers: tuple[torch.nn.Module, ...]
    optimizer: torch.optim.Optimizer
    rates: tuple[float, ...]  # of the optimizer's groups, before the schedule
    adapter: Adapter | None
    section: SftSection

    @property
    def micro_batch_tokens(self) -> int:
        return self.section.micro_batch_tokens or self.section.batch_tokens

    def scorer_of(self, micro: MicroBatch) -> Scorer:
        """Return what scores a micro-batch: of one too long, only so many layers keep what the backward pass needs as
        take the memory of all layers for `micro_batch_tokens` tokens. The first are computed again: they come last.
        """
        num_kept = int(len(self.layers) * self.micro_batch_tokens / micro.input_ids.numel())
        if num_kept >= len(self.layers):
            return self.scorer
        return replace(self.scorer, recomputed=self.layers[: len(self.layers) - num_kept])

    def policy_model(self) -> Any:
        """Return the model as a policy: adapters merged. It shares memory with the one in training."""
        model = self.scorer.model
        return model if self.adapter is None else whole_model(model, self.adapter, model.state_dict())

    def save(self, folder: Path, done: Done, tokenizer: Any, keep: int) -> None:
        """Write a checkpoint. Raises StorageError."""
        state = {"tokens": done.tokens, "read": done.read, "time_s": done.time_s}
        writer = adapter_writer(self.adapter, self.scorer.model.state_dict())
        model = self.policy_model()
        save_checkpoint(folder, done.steps, model, tokenizer, self.optimizer, state, keep, save_adapter=writer)

    def restore(self, folder: Path) -> Done:
        """Put the newest good checkpoint of a folder back; returns what was done by then. Raises CheckpointError."""
        checkpoint = load_checkpoint(folder)
        restore_trained(checkpoint, self.scorer.model, self.adapter, self.optimizer)
        state = checkpoint.state
        with restored(checkpoint.path, "state"):
            return Done(checkpoint.step, int(state["tokens"]), int(state["read"]), float(state["time_s"]))


def make_trainee(model: Any, section: SftSection, seed: int, note: Note = lambda message: None) -> Trainee:
    """Return a freshly loaded model, changed in place, ready for training.

    Args:
        note: is told what the model cannot do, where the section lets it choose (`auto`).
    Raises:
        ConfigError: the model cannot do what the section asks for.
    """
    with _keys_of_sft():
        adapter = add_lora(model, section.lora, seed)
        is_recomputed = section.gradient_checkpointing == "always"
        bf16 = is_bfloat16(section.bf16, model.device)
        scorer = fitting_scorer(model, section.packing, note, bf16=bf16, recompute=is_recomputed)
        layers = _layers(model, note) if section.gradient_checkpointing == "long_rows" else ()
    optimizer = make_optimizer(model, section)
    rates = tuple(float(group["lr"]) for group in optimizer.param_groups)
    return Trainee(scorer, layers, optimizer, rates, adapter, section)


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
