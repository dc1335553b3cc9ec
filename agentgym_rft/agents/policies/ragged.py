"""One forward pass over rows of different lengths, packed without padding.

The new tokens of all rows lie one after another in a single row of the model, each with its own position id, so every
layer but attention sees only real tokens. Attention is ours: it writes each token's key and value into its row's slot
of the `KVPool` and lets each row see its own slot alone. transformers hands it to any model that takes its attention
from `ALL_ATTENTION_FUNCTIONS`, and builds no mask for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface

from agentgym_rft.agents.policies import invariant
from agentgym_rft.agents.policies.attention import attention_of
from agentgym_rft.agents.policies.kv_cache import KVPool
from agentgym_rft.agents.policies.packed_linear import PackedLinears

ATTENTION_NAME = "agentgym_ragged"
_BLOCK = 4  # neighbouring slots that decode together on a CPU, where each pays for the longest of them
_MAX_IDLE_SHARE = 4  # decode all slots at once unless fewer than one in this many takes part


@dataclass(frozen=True, slots=True)
class Segment:
    """New tokens of one row: they take the positions `start`, `start + 1`, ... of the slot."""

    slot: int
    start: int
    ids: Sequence[int]
    wants_logits: bool = True


class RaggedBatch:
    """The row and position of each packed token, and the masks; shared by the layers of one forward pass.

    The first `num_decode` tokens are segments of one token in rising slot order, which attend in batched products over
    the slots `low` to `high`, a block of neighbours at a time; each later segment attends on its own, at its exact
    length.

    `is_invariant`: all sizes are rounded up, so that a token's result is the same in any batch, bit for bit. The
    padding tokens at the end then belong to no row.
    """

    def __init__(
        self, segments: Sequence[Segment], pool: KVPool, device: torch.device, is_invariant: bool = False
    ) -> None:
        self.pool = pool
        self.is_invariant = is_invariant
        self.windows: dict[int, int | None] = {}  # sliding window that each layer asked for
        self._device = device
        decode = sorted((s for s in segments if len(s.ids) == 1), key=lambda s: s.slot)
        self.low = decode[0].slot if decode else 0
        self.high = decode[-1].slot + 1 if decode else 0
        if len(decode) * _MAX_IDLE_SHARE < self.high - self.low:
            decode = []
        self.num_decode = len(decode)
        batched = {s.slot for s in decode}
        self.singles = [s for s in segments if s.slot not in batched]
        self.segments = [*decode, *self.singles]
        self.num_tokens = sum(len(s.ids) for s in self.segments)
        idle = [0] * (-self.num_tokens % invariant.TOKENS if is_invariant else 0)
        self.token_ids = self._tensor([t for s in self.segments for t in s.ids] + idle)
        self._token_slots = self._tensor([s.slot for s in self.segments for _ in s.ids])
        positions = [p for s in self.segments for p in range(s.start, s.start + len(s.ids))]
        self.positions = self._tensor(positions + idle)
        self._lengths = [s.start + 1 for s in decode]
        self.decode_length = self.padded(max(self._lengths, default=0))
        self.blocks = self._blocks(decode)
        self.decode_slots = self._token_slots[: self.num_decode] - self.low  # [decode]
        self._write_indices: dict[int, torch.Tensor] = {}
        self._decode_masks: dict[int | None, torch.Tensor] = {}
        self._single_masks: dict[tuple[int, int, int, int | None], torch.Tensor] = {}

    def padded(self, length: int) -> int:
        """Return number of cached positions that a row of this length is computed with."""
        return length + (-length % invariant.KEYS if self.is_invariant else 0)

    def _blocks(self, decode: Sequence[Segment]) -> list[tuple[int, int, int]]:
        """Return first slot after `low`, slot after the last, and cached positions of each block that takes part."""
        longest: dict[int, int] = {}
        span = self.high - self.low
        size = _BLOCK if self._device.type == "cpu" else max(span, 1)
        for segment in decode:
            block = (segment.slot - self.low) // size
            longest[block] = max(longest.get(block, 0), segment.start + 1)
        return [(n * size, min((n + 1) * size, span), self.padded(longest[n])) for n in sorted(longest)]

    def logit_indices(self) -> tuple[torch.Tensor, list[int]]:
        """Return the packed index of the last token of each segment that wants logits, and the slots of these in that
        order.
        """
        indices, slots, end = [], [], 0
        for segment in self.segments:
            end += len(segment.ids)
            if segment.wants_logits:
                indices.append(end - 1)
                slots.append(segment.slot)
        return self._tensor(indices), slots

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new keys and values, [kv heads, tokens, head dim]; returns the layer's whole tensors."""
        keys, values = self.pool.layer(layer, key, value)
        key, value = key[:, : self.num_tokens], value[:, : self.num_tokens]
        index = self._write_index(key.shape[0])
        keys.view(-1, keys.shape[-1]).index_copy_(0, index, key.reshape(-1, key.shape[-1]))
        values.view(-1, values.shape[-1]).index_copy_(0, index, value.reshape(-1, value.shape[-1]))
        return keys, values

    def decode_mask(self, window: int | None) -> torch.Tensor:
        """Return 0 where a slot's newest token may look, -inf elsewhere, [high - low, 1, decode_length]."""
        if window not in self._decode_masks:
            # Slots that take no part attend to their first position. Any finite value will do: it is thrown away.
            lengths = torch.ones(self.high - self.low, dtype=torch.long, device=self._device)
            lengths[self.decode_slots] = self._tensor(self._lengths)
            columns = torch.arange(self.decode_length, device=self._device)
            hidden = columns >= lengths[:, None]
            if window is not None:
                hidden |= columns < lengths[:, None] - window
            self._decode_masks[window] = _additive(hidden).unsqueeze(1)
        return self._decode_masks[window]

    def single_mask(self, start: int, count: int, window: int | None) -> tuple[int, torch.Tensor]:
        """Return the first column that the mask covers, and the mask: [count, padded(start + count) - that column]."""
        first = start if window is None else 0
        length = self.padded(start + count)
        key = (count, start - first, length - first, window)
        if key not in self._single_masks:
            rows = torch.arange(start, start + count, device=self._device)[:, None]
            columns = torch.arange(first, length, device=self._device)
            hidden = columns > rows
            if window is not None:
                hidden |= columns <= rows - window
            self._single_masks[key] = _additive(hidden)
        return first, self._single_masks[key]

    def _write_index(self, heads: int) -> torch.Tensor:
        """Return the place of each head's key of each token in a layer's tensors seen as one long list, [heads *
        tokens].
        """
        if heads not in self._write_indices:
            head = torch.arange(heads, device=self._device)[:, None]
            place = (self._token_slots * heads + head) * self.pool.capacity + self.positions[: self.num_tokens]
            self._write_indices[heads] = place.view(-1)
        return self._write_indices[heads]

    def _tensor(self, values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def ragged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention of packed tokens, each over its own slot, as transformers calls it: [1, tokens, heads, head
    dim].

    The query heads that share a key head are folded into the query length, so no key is ever repeated.

    Args:
        query: [1, heads, tokens, head dim].
        key, value: [1, kv heads, tokens, head dim], of the new tokens only.
        options: `kv_batch` is the `RaggedBatch`; `scaling`, `sliding_window` and `softcap` are the layer's own.
            Anything else that transformers passes is for other kinds of attention.
    """
    batch: RaggedBatch = options["kv_batch"]
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # every attention module of transformers has one
    window, softcap = options.get("sliding_window"), options.get("softcap")
    scaling = options.get("scaling")
    batch.windows[layer] = window
    keys, values = batch.write(layer, key[0], value[0])
    scaled = query[0] * (query.shape[-1] ** -0.5 if scaling is None else scaling)  # [H, T, D]
    out = query.new_zeros(query.shape[2], query.shape[1], values.shape[-1])  # [T, H, D]
    if batch.num_decode:
        out[: batch.num_decode] = _attend_decode(batch, scaled, keys, values, window, softcap)
    end = batch.num_decode
    for segment in batch.singles:
        begin, end = end, end + len(segment.ids)
        out[begin:end] = _attend_single(batch, segment, scaled[:, begin:end], keys, values, window, softcap)
    return out.unsqueeze(0), None


def _attend_decode(
    batch: RaggedBatch,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Return output of the one-token segments, [decode, heads, head dim], in a product for each block of slots."""
    rows = query[:, : batch.num_decode].transpose(0, 1)  # [decode, H, D]
    span = batch.high - batch.low
    is_dense = batch.num_decode == span
    if not is_dense:
        rows = query.new_zeros(span, *rows.shape[1:]).index_copy_(0, batch.decode_slots, rows)
    mask = batch.decode_mask(window)
    out = rows.new_empty(span, rows.shape[1], values.shape[-1])
    for low, high, length in batch.blocks:
        near = slice(batch.low + low, batch.low + high), slice(None), slice(length)
        part = _attend_block(batch, rows[low:high], keys[near], values[near], mask[low:high, :, :length], softcap)
        out[low:high] = part.view(high - low, rows.shape[1], -1)
    return out if is_dense else out[batch.decode_slots]


def _attend_block(
    batch: RaggedBatch,
    rows: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    softcap: float | None,
) -> torch.Tensor:
    """Return output of a block's slots, [slots * kv heads, group, head dim].

    Args:
        rows: queries, [slots, heads, head dim].
        keys, values: [slots, kv heads, positions, head dim].
        mask: [slots, 1, positions].
    """
    slots, heads, length = keys.shape[:3]
    if rows.dtype == torch.bfloat16 and rows.device.type == "cpu" and softcap is None and not batch.is_invariant:
        return _fused(rows.reshape(slots, heads, -1, rows.shape[-1]), keys, values, mask)
    folded = rows.reshape(slots * heads, -1, rows.shape[-1])  # [slots * Hkv, G, D]
    # Slots and heads merge into one dimension without a copy, since only positions are cut off.
    scores = _scores(batch, folded, keys.view(slots * heads, length, -1), softcap)  # [slots * Hkv, G, L]
    scores.view(slots, -1, length).add_(mask)
    return _weighted(batch, scores, values.view(slots * heads, length, -1))


def _fused(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return attention over keys [span, Hkv, L, D] that are a view: the CPU's bfloat16 products copy what is not
    contiguous, the whole cache each time, and torch's fused kernel does not.
    """
    shown = mask.to(query.dtype).unsqueeze(1).expand(-1, 1, query.shape[2], -1)  # [span, 1, G, L]
    out: torch.Tensor = F.scaled_dot_product_attention(query, keys, values, shown, scale=1.0)  # [span, Hkv, G, D]
    return out


def _attend_single(
    batch: RaggedBatch,
    segment: Segment,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Return output of one segment's tokens, [tokens, heads, head dim], for its queries [heads, tokens, head dim]."""
    count, heads = len(segment.ids), keys.shape[1]
    length = batch.padded(segment.start + count)
    folded = query.reshape(heads, -1, query.shape[-1])  # [Hkv, G * n, D]
    scores = _scores(batch, folded, keys[segment.slot, :, :length], softcap)  # [Hkv, G * n, L]
    if count > 1 or window is not None or batch.is_invariant:
        first, mask = batch.single_mask(segment.start, count, window)
        scores.view(-1, count, length)[:, :, first:].add_(mask)
    out = _weighted(batch, scores, values[segment.slot, :, :length])
    return out.view(query.shape[0], count, -1).transpose(0, 1)


def _scores(batch: RaggedBatch, query: torch.Tensor, keys: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """Return scores before the mask, [B, R, L], of [B, R, D] and [B, L, D]."""
    scores = invariant.scores(query, keys) if batch.is_invariant else torch.bmm(query, keys.transpose(1, 2))
    return scores if softcap is None else scores.div_(softcap).tanh_().mul_(softcap)


def _weighted(batch: RaggedBatch, scores: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return values weighted by the softmax of scores, [B, R, D], of [B, R, L] and [B, L, D]."""
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    return invariant.weighted(weights, values) if batch.is_invariant else torch.bmm(weights, values)


def _additive(hidden: torch.Tensor) -> torch.Tensor:
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, float("-inf"))


class RaggedModel:
    """A causal LM with a pool of cached rows: feeds segments, returns the next-token logits of each.

    `is_invariant`: the logits depend on the weights and the row's tokens alone, bit for bit; see `invariant.py`.
    """

    def __init__(self, model: Any, *, is_invariant: bool = False) -> None:
        AttentionInterface.register(ATTENTION_NAME, ragged_attention)
        self.model = model
        self.is_invariant = is_invariant
        self.pool = KVPool()
        self.linears = PackedLinears(model)
        self.device: torch.device = model.device
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def forward(self, segments: Sequence[Segment]) -> tuple[torch.Tensor, list[int], RaggedBatch]:
        """Return logits [rows, vocabulary] after each segment that wants them, the slots of these rows, and the batch.

        At most one segment a slot. The pool must have room for all slots and positions (`KVPool.reserve`).
        """
        batch = RaggedBatch(segments, self.pool, self.device, self.is_invariant)
        indices, slots = batch.logit_indices()
        inputs: dict[str, Any] = {"logits_to_keep": indices} if self._keeps_logits else {}
        layers = invariant.TiledLinear() if self.is_invariant else self.linears.used()
        with torch.inference_mode(), attention_of(self.model, ATTENTION_NAME), layers:
            logits = self.model(
                input_ids=batch.token_ids.unsqueeze(0),
                position_ids=batch.positions.unsqueeze(0),
                use_cache=False,
                kv_batch=batch,
                **inputs,
            ).logits[0]
            return (logits if self._keeps_logits else logits[indices]), slots, batch
