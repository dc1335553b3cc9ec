"""Attention of rows that lie one after another in one sequence: each token sees its own row alone.

Every layer but attention works on the packed tokens, [1, T]. For attention they are laid out as padded rows, which
torch's causal kernel takes in one call, and packed again after it. transformers gives this function to any model that
takes its attention from `ALL_ATTENTION_FUNCTIONS`, and builds no mask for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

from agentgym_rft.agents.policies.attention import attention_of
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.batch.packing import Packed

ATTENTION_NAME = "agentgym_packed"


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Return attention of packed tokens as transformers calls it -> [1, T, heads, head dim].

    Args:
        query: [1, heads, T, head dim].
        key, value: [1, kv heads, T, head dim].
        options: `packed` says where the tokens belong; `scaling` and `sliding_window` are the layer's own.
    Raises:
        ConfigError: the layer caps its scores, which torch's kernel cannot do.
    """
    packed: Packed = options["packed"]
    if options.get("softcap") is not None:
        raise ConfigError("trainer.packing=packed cannot serve attention with capped scores. Write padded.")
    queries, keys, values = (_unpacked(tensor[0], packed) for tensor in (query, key, value))
    window = options.get("sliding_window")
    mask = None if window is None or window >= packed.shape[1] else _band(packed.shape[1], window, query.device)
    out = F.scaled_dot_product_attention(
        queries, keys, values, mask, is_causal=mask is None, scale=options.get("scaling"), enable_gqa=True
    )  # [rows, heads, L, D]
    flat = out.transpose(1, 2).reshape(-1, out.shape[1], out.shape[3])  # [rows * L, heads, D]
    return flat[packed.places].unsqueeze(0), None


def _unpacked(tensor: Tensor, packed: Packed) -> Tensor:
    """Return [heads, T, D] -> [rows, heads, L, D], zero where a row is shorter."""
    num_rows, length = packed.shape
    flat = tensor.new_zeros(num_rows * length, tensor.shape[0], tensor.shape[2])
    flat = flat.index_copy(0, packed.places, tensor.transpose(0, 1))
    return flat.view(num_rows, length, *flat.shape[1:]).transpose(1, 2)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Return the mask by which each position sees the last `window` positions, [L, L] bool."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen & ~seen.tril(-window)


@contextmanager
def packed_rows(model: PreTrainedModel) -> Iterator[None]:
    """Use packed attention for the passes inside, the recomputing backward pass included."""
    AttentionInterface.register(ATTENTION_NAME, packed_attention)
    with attention_of(model, ATTENTION_NAME):
        yield


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Compare packed rows with the model's own forward pass on a few tokens.

    Raises:
        ConfigError: they differ: the model keeps another state than keys and values, or has another attention.
    """
    device = model.device
    ids = torch.arange(11, device=device).mul(7919).add(13).remainder(model.get_input_embeddings().num_embeddings)
    lengths = [6, 3, 2]
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    places = positions + torch.repeat_interleave(
        torch.arange(0, 18, 6, device=device), torch.tensor(lengths, device=device)
    )
    packed = Packed(positions[None], places, (3, 6))
    name = type(model).__name__
    own = torch.cat([model(input_ids=part[None], use_cache=False).logits[0] for part in torch.split(ids, lengths)])
    try:
        with packed_rows(model):
            got = model(input_ids=ids[None], position_ids=packed.positions, use_cache=False, packed=packed).logits[0]
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{name} cannot be trained with trainer.packing=packed ({problem}). Write padded.") from error
    tolerance = (1e-4 if own.dtype in (torch.float32, torch.float64) else 0.05) * float(own.abs().max())
    drift = float((got - own).abs().max())
    if not drift <= tolerance:
        raise ConfigError(
            f"{name} cannot be trained with trainer.packing=packed: packed rows change its logits by {drift:.2g}. "
            "Write trainer.packing=padded."
        )
