"""Names of policies: `MODEL` is sampled in this process (policy `hf`), `vllm:MODEL` by vLLM."""

from __future__ import annotations

VLLM = "vllm:"


def is_vllm(name: str) -> bool:
    """Return True if vLLM samples: `vllm:seed`, `vllm:seed:NAME`, `vllm:DIR`."""
    return name.startswith(VLLM)


def model_name(name: str) -> str:
    """Return the name of the model, without the `vllm:` before it."""
    return name.removeprefix(VLLM)


def renamed(name: str, model: str) -> str:
    """Return the name of another model that is sampled by the same engine as `name`."""
    return f"{VLLM}{model}" if is_vllm(name) else model
