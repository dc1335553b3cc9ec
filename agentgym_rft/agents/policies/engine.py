"""Continuous batching: each step puts waiting requests into free slots, feeds new tokens and samples a token a row.

No prefix is computed twice while it is in the cache: a row that begins as another one does takes over the keys and
values of the tokens that they share. If the other one has yet to feed them, the row waits for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from agentgym_rft.agents.policies.base import SampleRequest
from agentgym_rft.agents.policies.kv_cache import Slot, SlotTable, common_prefix
from agentgym_rft.agents.policies.ragged import RaggedModel, Segment
from agentgym_rft.agents.policies.sampling import request_uniforms, sample_rows
from agentgym_rft.errors import PolicyError

_LEAST_SHARED = 8  # tokens that are worth a copy
Source = TypeVar("Source")


@dataclass(slots=True, eq=False)
class Row:
    """A running request: `tokens` are its prompt and sampled tokens; the cache holds the first `fed` of them."""

    request: SampleRequest
    tokens: list[int]
    uniforms: list[float]
    slot: Slot | None = None
    number: int = 0  # in order of admission
    fed: int = 0
    source: Row | None = None  # a row that is about to feed the first `num_shared` tokens of this one, too
    num_shared: int = 0
    version: int | None = None  # of the weights that sampled its first token
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: Literal["stop", "length"] | None = None
    error: PolicyError | None = None


def new_row(request: SampleRequest) -> Row:
    """Return a row that has fed and sampled nothing yet."""
    return Row(request, list(request.prompt_ids), request_uniforms(request.seed, request.max_new_tokens))


class Engine:
    """Holds the running and the waiting rows. It knows nothing of asyncio: `step` does one forward pass and returns."""

    def __init__(self, model: RaggedModel, max_concurrency: int, step_tokens: int) -> None:
        """`step_tokens`: prompt tokens fed in one step; rows that generate always take part."""
        self._model = model
        self._step_tokens = step_tokens
        self._slots = SlotTable(max_concurrency)
        self._waiting: deque[Row] = deque()
        self._running: list[Row] = []  # in order of admission
        self._num_steps = self._num_started = 0
        self.version = 0  # of the weights, as rows carry it
        self.num_forward_tokens = 0  # fed to the model since the start, prompts and samples

    @property
    def is_busy(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def num_cached(self) -> int:
        """Episodes that hold a slot."""
        return len(self._slots)

    def add(self, row: Row) -> None:
        self._waiting.append(row)

    def discard(self, row: Row) -> None:
        """Stop a row whose caller was cancelled. Its fed tokens stay cached. A row that has ended is left alone."""
        if row in self._running:
            self._running.remove(row)
            self._park(row)
        elif row in self._waiting:
            self._waiting.remove(row)

    def release(self, key: str) -> None:
        """Free the slot of a key without running requests; with the last one, forget what episodes left behind.

        Keys computed among other rows differ in their last digits. What is played from here on must not depend on
        what was played before, since a resumed run begins without it.
        """
        self._slots.release(key)
        if not self.is_busy and not self.num_cached:
            self._slots.clear()
            self._model.linears.renew()

    def renew(self, version: int) -> None:
        """Drop all cached keys and values after the weights changed. Running rows are fed again and continue."""
        for row in self._running:
            self._park(row)
            row.slot, row.fed, row.source = None, 0, None
        self._waiting.extendleft(reversed(self._running))
        self._running.clear()
        self._slots.clear()
        self._model.pool.wipe(slice(None))
        self._model.linears.renew()
        self.version = version

    def forget(self) -> None:
        """Drop every row and all cached keys and values with their memory."""
        self._waiting.clear()
        for row in self._running:
            self._park(row)
        self._running.clear()
        self._slots.clear()
        self._model.pool.clear()

    def step(self) -> list[Row]:
        """Admit, feed and sample once; return the rows that ended, with `stop` or `error` set."""
        for row in self._running:
            self._take_over(row)
        self._admit()
        segments = self._plan()
        self._model.pool.reserve(self._slots.num_made, max(s.start + len(s.ids) for s in segments))
        logits, slots, _ = self._model.forward(segments)
        self._num_steps += 1
        self.num_forward_tokens += sum(len(s.ids) for s in segments)
        by_slot = {row.slot.index: row for row in self._running if row.slot is not None}
        for segment in segments:
            by_slot[segment.slot].fed += len(segment.ids)
        rows = [by_slot[slot] for slot in slots]
        if rows:
            temperatures = [row.request.temperature for row in rows]
            ids, logprobs = sample_rows(logits, temperatures, [row.uniforms[len(row.ids)] for row in rows])
            for row, token, logprob in zip(rows, ids, logprobs, strict=True):
                row.version = self.version if row.version is None else row.version
                _append(row, token, logprob)
        return self._collect()

    def _admit(self) -> None:
        """Give slots to waiting rows: first to episodes whose row is cached, so that these are not evicted by others.

        A slot that became idle after the last step is not taken from its episode, which may still be stepping its
        environment, unless nothing else could run.
        """
        cached = [row for row in self._waiting if self._slots.owns(row.request.cache_key)]
        fresh = [row for row in self._waiting if not self._slots.owns(row.request.cache_key)]
        self._waiting = deque(row for row in [*cached, *fresh] if not self._start(row, self._num_steps))
        if not self._running:
            self._waiting = deque(row for row in self._waiting if not self._start(row, self._num_steps + 1))

    def _start(self, row: Row, idle_before: int) -> bool:
        slot = self._slots.acquire(row.request.cache_key, row.tokens, idle_before)
        if slot is None:
            return False
        # The last prompt token is always fed: its logits give the first sample.
        row.fed = min(common_prefix(slot.ids, row.tokens), len(row.tokens) - 1)
        row.slot = slot
        self._num_started += 1
        row.number = self._num_started
        self._find_source(row)
        self._running.append(row)
        return True

    def _find_source(self, row: Row) -> None:
        """Copy what the cache has of the row's beginning beyond its own slot, or wait for the row that will have more.

        Only rows that started earlier are waited for, so that no two wait for each other.
        """
        most = len(row.tokens) - 1
        if most - row.fed < _LEAST_SHARED:
            return
        cached, num_shared = _most_alike(((slot, slot.ids) for slot in self._slots.at_rest), row)
        if cached is not None:
            self._copy(cached, row, min(num_shared, most))
        earlier = ((other, other.tokens) for other in self._running if other.number < row.number)
        feeding, num_shared = _most_alike(earlier, row)
        if feeding is not None:
            row.source, row.num_shared = feeding, min(num_shared, most)
            self._take_over(row)

    def _take_over(self, row: Row) -> None:
        """Copy what a row waits for once it was fed; if it will not be, look for another source."""
        source = row.source
        if source is None or (source in self._running and source.fed < row.num_shared):
            return
        row.source = None
        if source.slot is not None and source.error is None:
            self._copy(source.slot, row, min(row.num_shared, source.fed))
        if row.fed < row.num_shared:
            self._find_source(row)

    def _copy(self, source: Slot, row: Row, end: int) -> None:
        assert row.slot is not None
        if end > row.fed:
            self._model.pool.reserve(self._slots.num_made, end)
            self._model.pool.copy(source.index, row.slot.index, row.fed, end)
            row.fed = end

    def _plan(self) -> list[Segment]:
        """One segment for each running row: a sampled token, or a part of the prompt within the budget of the step."""
        segments, budget = [], self._step_tokens
        for row in self._running:
            if row.source is not None:
                continue
            assert row.slot is not None
            pending = len(row.tokens) - row.fed
            count = pending if pending == 1 else min(pending, budget)
            if count > 0:
                budget -= count if pending > 1 else 0
                ids = row.tokens[row.fed : row.fed + count]
                segments.append(Segment(row.slot.index, row.fed, ids, wants_logits=count == pending))
        return segments

    def _collect(self) -> list[Row]:
        ended = [row for row in self._running if row.stop is not None or row.error is not None]
        if ended:
            self._running = [row for row in self._running if row.stop is None and row.error is None]
            for row in ended:
                self._park(row)
        return ended

    def _park(self, row: Row) -> None:
        assert row.slot is not None
        if row.error is None:
            row.slot.ids = row.tokens[: row.fed]
        else:  # its keys may be NaN, and masking does not remove NaN, so the slot's next row would see it
            row.slot.ids = []
            self._model.pool.wipe(slice(row.slot.index, row.slot.index + 1))
        self._slots.park(row.slot, self._num_steps)


def _append(row: Row, token: int, logprob: float) -> None:
    """Add a sampled token and sets `stop`, or sets `error` if the model gave no distribution."""
    if not math.isfinite(logprob):
        row.error = PolicyError(
            f"The model's logits for '{row.request.cache_key}' are not finite after {row.fed} tokens (version and "
            "weights of the last `load` are at fault, or the learning rate that made them)."
        )
        return
    row.ids.append(token)
    row.logprobs.append(logprob)
    row.tokens.append(token)
    if token in row.request.stop_ids:
        row.stop = "stop"
    elif len(row.ids) == row.request.max_new_tokens:
        row.stop = "length"


def _most_alike(sources: Iterable[tuple[Source, list[int]]], row: Row) -> tuple[Source | None, int]:
    """Return the source that shares most tokens with the row's beginning, and how many; None if no more than are fed.

    The few tokens after those that are fed tell most sources apart.
    """
    next_tokens = slice(row.fed, row.fed + _LEAST_SHARED)
    best, most = None, row.fed
    for source, tokens in sources:
        if tokens[next_tokens] == row.tokens[next_tokens]:
            num_shared = common_prefix(tokens, row.tokens)
            if num_shared > most:
                best, most = source, num_shared
    return best, most
