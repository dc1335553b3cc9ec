"""A policy's name: the model, and before it, with a colon, what samples from it where that is not the default."""

from __future__ import annotations

VLLM = "vllm:"


def is_vllm(name: str) -> bool:
    """True if vLLM samples: `vllm:seed`, `vllm:seed:NAME`, `vllm:DIR`."""
    return name.startswith(VLLM)


def model_name(name: str) -> str:
    """The name without what samples."""
    return name.removeprefix(VLLM)


def renamed(name: str, model: str) -> str:
    """The name of another model, sampled from in the same way as `name`."""
    return f"{VLLM}{model}" if is_vllm(name) else model
