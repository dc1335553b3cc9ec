"""Key-value cache of many rows: one slot for each episode, in tensors that grow with the longest row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

_CAPACITY_STEP = 128  # tokens; small enough to waste little, large enough to grow seldom


class KVPool:
    """Keys and values of every layer, [slots, kv heads, capacity, head dim], position by position of each slot's row.

    A layer's tensors are made when it first writes, with its own head count and sizes. Positions that were never
    written are zero: attention multiplies masked positions by zero, and zero times NaN would still be NaN.
    """

    def __init__(self) -> None:
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.num_slots = 0
        self.capacity = 0

    def clear(self) -> None:
        """Drop all tensors and their memory."""
        self._layers.clear()
        self.num_slots = 0
        self.capacity = 0

    def wipe(self, slots: slice) -> None:
        """Sets the keys and values of these slots to zero."""
        with torch.inference_mode():
            for keys, values in self._layers.values():
                keys[slots].zero_()
                values[slots].zero_()

    def copy(self, source: int, target: int, first: int, end: int) -> None:
        """Give one slot the keys and values of another's positions from `first` to before `end`."""
        with torch.inference_mode():
            for keys, values in self._layers.values():
                keys[target, :, first:end] = keys[source, :, first:end]
                values[target, :, first:end] = values[source, :, first:end]

    def reserve(self, num_slots: int, length: int) -> None:
        """Make room for rows of `length` tokens in `num_slots` slots. Grows to at least double, so copying is rare."""
        if num_slots > self.num_slots:
            self.num_slots = max(num_slots, 2 * self.num_slots)
        if length > self.capacity:
            wanted = max(length, 2 * self.capacity)
            self.capacity = -(-wanted // _CAPACITY_STEP) * _CAPACITY_STEP
        for index, (keys, values) in self._layers.items():
            if keys.shape[0] < self.num_slots or keys.shape[2] < self.capacity:
                self._layers[index] = (self._grown(keys), self._grown(values))

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tensors of one layer, made if need be for keys and values like these, [kv heads, tokens, head
        dim].
        """
        if index not in self._layers:
            self._layers[index] = (self._zeros(key), self._zeros(value))
        return self._layers[index]

    def _zeros(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(self.num_slots, like.shape[0], self.capacity, like.shape[-1])

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        slots, heads, capacity, size = old.shape
        new = old.new_zeros(self.num_slots, heads, self.capacity, size)
        new[:slots, :, :capacity] = old
        return new


@dataclass(slots=True, eq=False)
class Slot:
    """One place in the pool and the tokens whose keys and values it holds, also when it belongs to no episode."""

    index: int
    key: str | None = None  # of its episode
    ids: list[int] = field(default_factory=list)
    is_busy: bool = False
    idle_since: int = -1  # the step after which it became idle


class SlotTable:
    """Says which episode owns which slot. When slots run out, the least recently used idle owner loses its slot.

    A slot keeps its tokens until another episode writes over them, so that they can serve one that begins as they do.
    """

    def __init__(self, max_slots: int) -> None:
        self._max_slots = max_slots
        self._by_key: dict[str, Slot] = {}
        self._idle: OrderedDict[str, Slot] = OrderedDict()  # oldest first
        self._free: list[Slot] = []  # without an episode
        self._num_made = 0

    def __len__(self) -> int:
        """Return number of slots that belong to an episode."""
        return len(self._by_key)

    @property
    def num_made(self) -> int:
        """One more than the highest slot index ever given out."""
        return self._num_made

    @property
    def at_rest(self) -> Iterator[Slot]:
        """The slots that nobody writes to now."""
        yield from self._idle.values()
        yield from self._free

    def clear(self) -> None:
        """Forget all episodes and tokens. No slot may be busy."""
        assert len(self._idle) == len(self._by_key)
        self._by_key.clear()
        self._idle.clear()
        self._free.clear()
        self._num_made = 0

    def owns(self, key: str) -> bool:
        return key in self._by_key

    def acquire(self, key: str, tokens: Sequence[int], idle_before: int) -> Slot | None:
        """Take the key's slot, or another one; None if every other slot is busy or idle only since `idle_before`.

        Of slots without an episode it is the one whose tokens begin most like `tokens`, else that of the lowest index,
        so that the slots in use stay close together.
        """
        slot = self._by_key.get(key)
        if slot is None:
            slot = self._take(tokens, idle_before)
            if slot is None:
                return None
            slot.key = key
            self._by_key[key] = slot
        assert not slot.is_busy
        self._idle.pop(key, None)
        slot.is_busy = True
        return slot

    def park(self, slot: Slot, step: int) -> None:
        """The slot's request is over, its row stays for the next turn of the episode."""
        assert slot.key is not None
        slot.is_busy = False
        slot.idle_since = step
        self._idle[slot.key] = slot

    def release(self, key: str) -> None:
        """Take an idle key's slot from it. Unknown keys are fine."""
        slot = self._idle.pop(key, None)
        if slot is not None:
            del self._by_key[key]
            slot.key = None
            self._free.append(slot)

    def _take(self, tokens: Sequence[int], idle_before: int) -> Slot | None:
        if not self._free and self._num_made < self._max_slots:
            self._num_made += 1
            return Slot(self._num_made - 1)
        if not self._free:
            oldest = next(iter(self._idle.values()), None)
            if oldest is None or oldest.idle_since >= idle_before:
                return None
            assert oldest.key is not None
            self.release(oldest.key)
        best = min(self._free, key=lambda slot: (-common_prefix(slot.ids, tokens), slot.index))
        self._free.remove(best)
        return best


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return number of equal leading tokens."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:  # equal up to `low`, not up to `high`
        middle = (low + high) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle)
    return low
