"""Hands weights to vLLM's processes: as one safetensors file in shared memory or on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from agentgym_rft.errors import DataError, PolicyError
from agentgym_rft.json_text import parse_json

SHARED_MEMORY = Path("/dev/shm")  # a file system in memory, on every Linux
_LORA_KEYS = (
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layers_pattern",
    "fan_in_fan_out",  # of transposed weights, such as GPT-2's
    "target_parameters",  # of experts in one parameter
)


@contextmanager
def handed_over(
    weights: Mapping[str, torch.Tensor], sync: Literal["memory", "disk"], folder: str | None
) -> Iterator[Path]:
    """Return a file that holds the weights, while the block runs.

    Args:
        weights: none of which shares memory with another.
        sync, folder: whether the file is in shared memory, or in this folder (default: the temporary one).

    Raises:
        PolicyError: it cannot be written, or there is no room for it.
    """
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    parent = SHARED_MEMORY if sync == "memory" else Path(folder or tempfile.gettempdir())
    if not parent.is_dir():
        raise PolicyError(f"The weights cannot be handed over: there is no directory '{parent}'.")
    free = shutil.disk_usage(parent).free
    if free < size + 1_000_000:
        advice = "Make it larger, or set policy.vllm.sync=disk" if sync == "memory" else "Set policy.vllm.sync_dir"
        raise PolicyError(f"The weights take {size / 1e6:.0f} MB, but {parent} has {free / 1e6:.0f} MB free. {advice}.")
    place = Path(tempfile.mkdtemp(prefix="agentgym-weights-", dir=parent))
    try:
        try:
            save_file(tensors, place / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise PolicyError(f"The weights could not be written to {parent}: {error}") from error
        yield place / "model.safetensors"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def merged(base: Mapping[str, torch.Tensor], adapter: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a base model with a LoRA adapter of peft added to them.

    Raises:
        DataError: the directory holds no adapter, one of a kind other than plain LoRA, or one of another model.
    """
    config, tensors = _read_adapter(adapter)
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    result = dict(base)
    for name, low in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        high = tensors.get(name.replace(".lora_A.", ".lora_B."))
        weight = result.get(f"{module}.weight")
        if high is None or weight is None or weight.shape != (high.shape[0], low.shape[1]):
            raise DataError(f"The adapter in '{adapter}' is of another model: '{name}' does not fit.")
        result[f"{module}.weight"] = weight + scale * (high.to(weight) @ low.to(weight))
    return result


def _read_adapter(adapter: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        config = parse_json((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(adapter / "adapter_model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"'{adapter}' holds no LoRA adapter in peft's format: {error}") from error
    special = [key for key in _LORA_KEYS if config.get(key)]
    if config.get("peft_type") != "LORA" or special:
        kind = config.get("peft_type")
        raise DataError(
            f"The adapter in '{adapter}' is {kind} {special or ''}; vLLM takes plain LoRA.".replace("  ", " ")
        )
    return config, tensors
