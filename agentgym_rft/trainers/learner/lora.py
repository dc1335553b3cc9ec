"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft.

peft puts the adapters into the model object, so all that use this object (the scorer, and the policy that samples from
it) compute with them. A policy with a model object of its own gets merged weights instead: W + alpha / rank B A, under
the base model's names. Whether that is the same model is tried once, as soon as the adapters are in it.
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
from torch.func import functional_call
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from agentgym_rft.config.run import LoraSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.store.trainer_state import assign

_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"
_PREFIX = "base_model.model."  # of the names in peft's files
_LINEAR = (nn.Linear, Conv1D)
_PROBE_LENGTH = 8
_PROBE_STD = 0.2  # of B in the probe, times alpha / rank: enough that a lost adapter shows


@dataclass(frozen=True, slots=True)
class AdaptedWeight:
    """How the adapter of one weight is added to it.

    Args:
        prefix: the names of A and B begin with it.
        scaling: alpha / rank.
        num_experts: parts that the weight holds, one after another, each with an A and a B of its own.
        is_transposed: the weight is [..., in, out], as GPT-2's are, and not [..., out, in].
    """

    prefix: str
    scaling: float
    num_experts: int = 1
    is_transposed: bool = False

    def product(self, weights: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Return alpha / rank B A in the shape of the weight, from a full state dict of the model."""
        a, b = (weights[self.prefix + kind].to(dtype) for kind in (_A, _B))
        if self.num_experts > 1:  # peft holds A as [experts * rank, in] and B as [out, rank * experts]
            a = a.reshape(self.num_experts, -1, a.shape[-1])
            b = b.reshape(b.shape[0], -1, self.num_experts).permute(2, 0, 1)
        product = self.scaling * (b @ a)
        return product.transpose(-2, -1) if self.is_transposed else product


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapters of a model.

    `wrapper` is peft's model around it, for peft's own file format; `adapted` are the weights that have one, by the
    base model's names.
    """

    wrapper: Any
    adapted: Mapping[str, AdaptedWeight]

    def merged(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of the base model with the products added, from a full state dict of the model they are in.

        Products are taken in float32 at least.
        """
        merged: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            if name.endswith((_A, _B)):
                continue
            base = base_name(name)
            found = self.adapted.get(base)
            if found is not None:
                wide = torch.promote_types(tensor.dtype, torch.float32)
                tensor = (tensor.to(wide) + found.product(weights, wide)).to(tensor.dtype)
            merged[base] = tensor
        return merged

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the adapters in peft's format; `weights` is a full state dict of the model they are in."""
        own = {f"{_PREFIX}{name}": tensor.cpu() for name, tensor in adapter_weights(weights).items()}
        self.wrapper.save_pretrained(folder, state_dict=own)


def add_lora(model: Any, section: LoraSection, seed: int) -> Adapter | None:
    """Put adapters into a model, in place, and freeze all else; None if the section asks for none.

    B is 0 at first, so the model's outputs do not change.

    Raises:
        ConfigError: peft is not installed, a target is missing or no linear layer, or the adapters cannot be merged
            into the model's weights.
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
        warnings.filterwarnings("ignore", "fan_in_fan_out is set|The following (rank|alpha)_pattern")  # it sets them
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings")  # the merge is tried below
        torch.manual_seed(seed)
        try:
            wrapper = peft.get_peft_model(model, settings)
        except ValueError as error:
            raise ConfigError(f"trainer.lora cannot be put into {type(model).__name__}: {error}") from error
    model.eval()
    adapter = Adapter(wrapper, _adapted(model))
    _check_merge(model, adapter)
    return adapter


def _adapted(model: nn.Module) -> dict[str, AdaptedWeight]:
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper

    found = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        base, parameter, num_experts = layer.get_base_layer(), "weight", 1
        is_transposed = isinstance(base, Conv1D)
        if isinstance(layer, ParamWrapper):
            parameter, num_experts = layer.parameter_name, layer.num_experts
            is_transposed = num_experts > 1 and getattr(base, "is_transposed", False)
        (scaling,) = layer.scaling.values()
        found[base_name(f"{name}.{parameter}")] = AdaptedWeight(name, scaling, num_experts, is_transposed)
    return found


@torch.no_grad()
def _check_merge(model: Any, adapter: Adapter) -> None:
    """Compare the logits of a model with those of its merged weights, with other adapters than the fresh ones.

    Raises `ConfigError` if they differ, or if the weights cannot be merged.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.arange(_PROBE_LENGTH, device=model.device).mul_(7919).add_(13).remainder_(vocabulary)[None]
    probe, generator = dict(model.state_dict()), torch.Generator().manual_seed(0)
    for layer in adapter.adapted.values():
        name = layer.prefix + _B
        noise = torch.randn(probe[name].shape, generator=generator) * (_PROBE_STD / layer.scaling)
        probe[name] = noise.to(probe[name])
    inputs = {"input_ids": ids, "use_cache": False}
    noisy = {name: tensor for name, tensor in probe.items() if name.endswith(_B)}
    expected = functional_call(model, noisy, (), inputs).logits
    buffers = {base_name(name): buffer for name, buffer in model.named_buffers()}
    try:
        plain = exported(model, adapter.merged(probe)).eval()
        drift = float((functional_call(plain, buffers, (), inputs).logits - expected).abs().max())
    except (RuntimeError, ValueError, KeyError) as error:
        raise _unmergeable(model, " ".join(str(error).split())[:200].rstrip(".")) from error
    if not drift <= (1e-3 if expected.dtype == torch.float32 else 0.1) * float(expected.abs().max()):
        raise _unmergeable(model, f"the logits of the merged weights differ by {drift:.2g}")


def _unmergeable(model: Any, problem: str) -> ConfigError:
    return ConfigError(
        f"trainer.lora: adapters of {type(model).__name__} cannot be merged into its weights: {problem}. Name other "
        "layers in trainer.lora.targets, or train all weights with trainer.lora.rank=0."
    )


def exported(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """Return a whole model of the same kind, without adapters, that holds these weights."""
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(model.config, dtype=model.dtype)
    plain.load_state_dict(dict(weights), assign=True)
    plain.tie_weights()
    return plain


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
        if not found or not all(isinstance(module, _LINEAR) for module in found):
            linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, _LINEAR)}
            problem = "is no linear layer" if found else "is not in the model"
            raise ConfigError(f"trainer.lora.targets: '{target}' {problem}. Linear: {', '.join(sorted(linear))}.")


def adapter_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the adapters' own weights, by peft's names without the part that names the adapter."""
    return {name.replace(".default", ""): tensor for name, tensor in weights.items() if name.endswith((_A, _B))}


def base_name(name: str) -> str:
    """Return the base model's name of a weight; peft's names have a part for each layer that it wraps."""
    return ".".join(part for part in name.split(".") if part != "base_layer")


def load_adapter(model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Copy stored adapter weights, named as `adapter_weights` does, into a model, which may be sharded."""
    own = adapter_weights(dict(model.named_parameters()))
    for name, tensor in stored.items():
        assign(own[name], tensor)


def stored_adapter(folder: Path) -> dict[str, Tensor]:
    """Return the adapter weights that `Adapter.save` wrote, named as `adapter_weights` does."""
    stored = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    return {name.removeprefix(_PREFIX): tensor for name, tensor in stored.items()}
