"""What a checkpoint holds of a trained model: whole weights, adapters merged, and the adapters beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agentgym_rft.errors import CheckpointError
from agentgym_rft.store.checkpoint import (
    Checkpoint,
    restore,
    restore_optimizer,
    restored,
    stored_weights,
    weights_difference,
)
from agentgym_rft.store.trainer_state import assign
from agentgym_rft.trainers.learner.lora import (
    Adapter,
    adapter_weights,
    base_name,
    exported,
    load_adapter,
    stored_adapter,
)


def adapter_writer(adapter: Adapter | None, weights: Mapping[str, Tensor]) -> Callable[[Path], None] | None:
    """Return what writes the adapters in peft's format to a folder; None without adapters.

    Args:
        weights: a full state dict of the model that they are in.
    """
    return None if adapter is None else partial(adapter.save, weights=weights)


def whole_model(model: Any, adapter: Adapter | None, weights: Mapping[str, Tensor]) -> Any:
    """Return a model of the same kind that is not sharded and has no adapters: they are merged into its weights.

    Args:
        weights: a full state dict of the model, adapters included.
    """
    return exported(model, weights if adapter is None else adapter.merged(weights))


def restore_trained(
    checkpoint: Checkpoint, model: Any, adapter: Adapter | None, optimizer: torch.optim.Optimizer
) -> Mapping[str, Any]:
    """Put a checkpoint's weights and optimizer state back; returns what was saved beside them.

    Raises:
        CheckpointError: it is of another model, optimizer or kind of training.
    """
    is_adapter = (checkpoint.path / "adapter").is_dir()
    if is_adapter != (adapter is not None):
        trained = "adapters (lora.rank)" if is_adapter else "all weights"
        raise CheckpointError(f"Checkpoint '{checkpoint.path}' is of a run that trained {trained}; this one does not.")
    if not is_adapter:
        return restore(checkpoint, model, optimizer)
    _load_adapter(model, checkpoint)
    return restore_optimizer(checkpoint, optimizer)


def _load_adapter(model: Any, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's adapters, after a check that they were trained on the same frozen weights."""
    stored = stored_weights(checkpoint, model.dtype)
    with restored(checkpoint.path, "adapter"):
        adapters = stored_adapter(checkpoint.path / "adapter")
    own = model.state_dict()
    base = {base_name(name): tensor for name, tensor in own.items() if ".lora_" not in name}
    difference = (
        weights_difference(stored, base)
        or weights_difference(adapters, adapter_weights(own))
        or _changed(model, stored)
    )
    if difference:
        raise CheckpointError(f"Checkpoint '{checkpoint.path}' is of another model: {difference}.")
    load_adapter(model, adapters)


def _changed(model: nn.Module, stored: Mapping[str, Tensor]) -> str | None:
    """Return the first frozen weight that differs from the stored one. A sharded process compares only its own part."""
    for name, tensor in model.state_dict().items():
        if ".base_layer." in name or ".lora_" in name:
            continue
        mine = torch.empty_like(tensor)
        assign(mine, stored[name])
        if not torch.equal(_local(mine), _local(tensor)):
            return f"'{name}' has other values, so its adapters are for another policy.path"
    return None


def _local(tensor: Any) -> Tensor:
    part: Tensor = tensor.to_local() if isinstance(tensor, torch.distributed.tensor.DTensor) else tensor
    return part
