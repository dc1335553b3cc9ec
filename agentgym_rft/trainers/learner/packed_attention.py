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
    mask = _mask(packed, options.get("sliding_window"), query)
    outs, end = [], 0
    for tile in packed.tiles:
        begin, end = end, end + tile.num_rows * tile.num_own
        outs.append(_attend(tile, tokens, slice(begin, end), mask, options.get("scaling")))
    return torch.cat(outs).unsqueeze(0), None


def _mask(packed: Packed, window: int | None, like: Tensor) -> Tensor:
    """Return the mask of which every chunk's is a part, [chunk, longest path + chunk], 0 or -inf.

    Line `n` is that of a token after `longest` + `n` others. Fewer others are the same without the columns before.
    """
    if window not in packed.masks:
        newest = packed.longest + torch.arange(_CHUNK, device=like.device)[:, None]
        place = torch.arange(packed.longest + _CHUNK, device=like.device)
        hidden = place > newest if window is None else (place > newest) | (place <= newest - window)
        packed.masks[window] = torch.zeros(hidden.shape, device=like.device).masked_fill_(hidden, -torch.inf)
    return packed.masks[window].to(like.dtype)


def _attend(tile: Tile, tokens: Sequence[Tensor], own: slice, mask: Tensor, scale: float | None) -> Tensor:
    """Return what a tile's own tokens see, [own tokens, heads, D].

    A chunk of them at a time, with the keys up to its last: this leaves out what the mask would only hide.
    """
    query, key, value = tokens
    queries = _rows(query[own], tile)
    shown = (key[own], value[own]) if tile.paths is None else (t.index_select(0, tile.paths) for t in (key, value))
    keys, values = (_rows(tensor, tile) for tensor in shown)
    outs = []
    for first in range(0, tile.num_own, _CHUNK):
        end = min(first + _CHUNK, tile.num_own)
        reach, before = tile.start + end, mask.shape[1] - _CHUNK - tile.start - first
        part = queries[:, :, first:end], keys[:, :, :reach], values[:, :, :reach]
        own_mask = mask[: end - first, before : before + reach]
        outs.append(F.scaled_dot_product_attention(*part, own_mask, scale=scale, enable_gqa=True))
    out = torch.cat(outs, dim=2) if len(outs) > 1 else outs[0]  # [rows, heads, own tokens of a row, D]
    return out.transpose(1, 2).flatten(0, 1)


def _rows(tensor: Tensor, tile: Tile) -> Tensor:
    """Return tokens of a tile by rows: [tokens, heads, D] -> [rows, heads, tokens of a row, D]."""
    return tensor.view(tile.num_rows, -1, *tensor.shape[1:]).transpose(1, 2)


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
