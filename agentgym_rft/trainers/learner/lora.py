"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft.

peft puts the adapters into the model object, so all that use this object (the scorer, and the policy that samples from
it) compute with them. A policy with a model object of its own gets merged weights instead: W + alpha / rank B A, under
the base model's names.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from agentgym_rft.config.run import LoraSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.store.trainer_state import assign

_A, _B, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."
_PREFIX = "base_model.model."  # of the names in peft's files


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapters of a model. `wrapper` is peft's model around it, for peft's own file format."""

    wrapper: Any
    scaling: float

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the adapters in peft's format; `weights` is a full state dict of the model they are in."""
        own = {f"{_PREFIX}{name}": tensor.cpu() for name, tensor in adapter_weights(weights).items()}
        self.wrapper.save_pretrained(folder, state_dict=own)


def add_lora(model: Any, section: LoraSection, seed: int) -> Adapter | None:
    """Put adapters into a model, in place, and freeze all else; None if the section asks for none.

    B is 0 at first, so the model's outputs do not change.

    Raises:
        ConfigError: peft is not installed, or a target is missing or no linear layer.
    """
    if not section.rank:
        return None
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "trainer.lora needs peft, which is not installed. Install it with: pip install 'agentgym-rft[peft]'"
        ) from error
    _check_targets(model, section.targets)
    settings = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=section.rank,
        lora_alpha=section.alpha,  # type: ignore[arg-type]  # peft only divides it
        target_modules=list(section.targets) or "all-linear",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        torch.manual_seed(seed)
        try:
            wrapper = peft.get_peft_model(model, settings)
        except ValueError as error:
            raise ConfigError(f"trainer.lora cannot be put into {type(model).__name__}: {error}") from error
    model.eval()
    return Adapter(wrapper, section.alpha / section.rank)


def sharing_copy(model: Any) -> Any:
    """Return a copy of the model that shares its weights and buffers in memory, but has adapters of its own, if there
    are any.

    A change of a shared weight is a change in all copies.
    """
    shared = [*model.named_parameters(), *model.named_buffers()]
    return deepcopy(model, {id(tensor): tensor for name, tensor in shared if ".lora_" not in name})


def _check_targets(model: nn.Module, targets: tuple[str, ...]) -> None:
    for target in targets:
        found = [module for name, module in model.named_modules() if name == target or name.endswith(f".{target}")]
        if not found or not all(isinstance(module, nn.Linear) for module in found):
            linear = {
                name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)
            }
            problem = "is no linear layer" if found else "is not in the model"
            raise ConfigError(f"trainer.lora.targets: '{target}' {problem}. Linear: {', '.join(sorted(linear))}.")


def adapter_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the adapters' own weights, by peft's names without the part that names the adapter."""
    return {name.replace(".default", ""): tensor for name, tensor in weights.items() if name.endswith((_A, _B))}


def merged_weights(weights: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Return weights of the base model with the adapters' products added, from a full state dict of the model they are
    in.

    Products are taken in float32 at least.
    """
    merged: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.endswith((_A, _B)):
            continue
        layer, mark, kind = name.partition(_BASE)
        if mark and kind == "weight":
            wide = torch.promote_types(tensor.dtype, torch.float32)
            product = weights[layer + _B].to(wide) @ weights[layer + _A].to(wide)
            tensor = (tensor.to(wide) + scaling * product).to(tensor.dtype)
        merged[name.replace(_BASE, ".")] = tensor
    return merged


def load_adapter(model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Copy stored adapter weights, named as `adapter_weights` does, into a model, which may be sharded."""
    own = adapter_weights(dict(model.named_parameters()))
    for name, tensor in stored.items():
        assign(own[name], tensor)


def stored_adapter(folder: Path) -> dict[str, Tensor]:
    """Return the adapter weights that `Adapter.save` wrote, named as `adapter_weights` does."""
    stored = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    return {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items()}
