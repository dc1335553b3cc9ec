"""Attention of rows that lie one after another in one sequence: each token sees the path of its own row alone.

Every layer but attention works on the packed tokens, [1, T], in which a prefix that rows share is there once. For
attention the tokens of a tile are laid out as padded rows, each with the keys and values of its whole path, and packed
again after it; what comes back to a shared token's key is the sum over the rows that saw it. transformers gives this
function to any model that takes its attention from `ALL_ATTENTION_FUNCTIONS`, and builds no mask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

from agentgym_rft.agents.policies.attention import attention_of
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.batch.forest import Packed, Tile
from agentgym_rft.trainers.batch.packing import pack
from agentgym_rft.trainers.batch.table import Row

ATTENTION_NAME = "agentgym_packed"
_CHUNK = 128  # tokens of each row that attend in one call: later ones' keys are left out, as no mask leaves them out


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
    tokens = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # [T, heads, D] each
    outs, end = [], 0
    for tile in packed.tiles:
        begin, end = end, end + len(tile.places)
        outs.append(_attend(tile, tokens, slice(begin, end), options.get("sliding_window"), options.get("scaling")))
    return torch.cat(outs).unsqueeze(0), None


def _attend(tile: Tile, tokens: Sequence[Tensor], own: slice, window: int | None, scale: float | None) -> Tensor:
    """Return what a tile's own tokens see, [own tokens, heads, D]."""
    query, key, value = tokens
    num_rows, width, length = tile.shape
    if tile.paths is None:
        keys, values = (_laid_out(tensor[own], tile) for tensor in (key, value))
    else:
        keys, values = (
            tensor.index_select(0, tile.paths).view(num_rows, length, *tensor.shape[1:]).transpose(1, 2)
            for tensor in (key, value)
        )
    queries, outs = _laid_out(query[own], tile), []
    for first in range(0, width, _CHUNK):
        end = min(first + _CHUNK, width)
        reach = min(tile.start + end, length)
        part = queries[:, :, first:end], keys[:, :, :reach], values[:, :, :reach]
        mask = _mask(tile, first, end, reach, window).to(query.dtype)
        outs.append(F.scaled_dot_product_attention(*part, mask, scale=scale, enable_gqa=True))
    out = torch.cat(outs, dim=2)  # [rows, heads, width, D]
    return out.transpose(1, 2).reshape(num_rows * width, *out.shape[1::2])[tile.places]


def _mask(tile: Tile, first: int, end: int, reach: int, window: int | None) -> Tensor:
    """Return what is added to the scores of some own tokens of each row, 0 or -inf: [rows, 1, end - first, reach]."""
    if (first, window) not in tile.masks:
        newest = tile.newest[:, None, first:end, None]
        place = torch.arange(reach, device=newest.device)
        hidden = place > newest if window is None else (place > newest) | (place <= newest - window)
        tile.masks[first, window] = torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)
    return tile.masks[first, window]


def _laid_out(tensor: Tensor, tile: Tile) -> Tensor:
    """Return the own tokens of a tile as padded rows: [own tokens, heads, D] -> [rows, heads, width, D]."""
    num_rows, width, _ = tile.shape
    flat = tensor.new_zeros(num_rows * width, *tensor.shape[1:]).index_copy(0, tile.places, tensor)
    return flat.view(num_rows, width, *tensor.shape[1:]).transpose(1, 2)


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
    ids = np.arange(12) * 7919 % model.get_input_embeddings().num_embeddings
    begun = np.concatenate([ids[:3], ids[7:10]])  # as the first row, and then another way
    rows = [_row(ids[:7], 0), _row(begun, 6), _row(ids[9:], 11)]
    (batch,) = pack(rows, 64, "packed")
    batch = batch.to(model.device)
    assert batch.packed is not None
    positions, name = batch.packed.positions, type(model).__name__
    fed = [torch.from_numpy(row.ids[None, :-1]).to(model.device) for row in rows]
    own = torch.cat([model(input_ids=row, use_cache=False).logits[0] for row in fed])[batch.index]
    try:
        with packed_rows(model):
            out = model(input_ids=batch.input_ids, position_ids=positions, use_cache=False, packed=batch.packed)
        got = out.logits[0, batch.predictors]
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


def _row(ids: np.ndarray, first: int) -> Row:
    """Return a row whose tokens all are trained but the first."""
    return Row(ids, np.arange(1, len(ids)), np.arange(first, first + len(ids) - 1), 0, 0)
