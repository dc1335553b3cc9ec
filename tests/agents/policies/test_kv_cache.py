"""Slots go to the episodes that run, then to those that ran last; the pool keeps what it holds when it grows."""

from __future__ import annotations

from itertools import takewhile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentgym_rft.agents.policies.kv_cache import KVPool, SlotTable, common_prefix


def test_a_key_gets_its_own_slot_back() -> None:
    table = SlotTable(2)
    slot = table.acquire("a", [], 0)
    assert slot is not None
    slot.ids = [1, 2]
    table.park(slot, step=1)
    assert table.acquire("a", [], 1) is slot
    assert slot.ids == [1, 2]


def test_the_least_recently_used_idle_key_loses_its_slot() -> None:
    table = SlotTable(2)
    a, b = table.acquire("a", [], 0), table.acquire("b", [], 0)
    assert a is not None
    assert b is not None
    table.park(b, step=1)
    table.park(a, step=2)
    c = table.acquire("c", [], idle_before=9)
    assert c is not None
    assert c.index == b.index
    assert [table.owns(key) for key in "abc"] == [True, False, True]


def test_busy_slots_and_those_idle_since_the_last_step_are_not_taken() -> None:
    table = SlotTable(1)
    slot = table.acquire("a", [], 0)
    assert slot is not None
    assert table.acquire("b", [], 9) is None
    table.park(slot, step=3)
    assert table.acquire("b", [], idle_before=3) is None
    assert table.acquire("b", [], idle_before=4) is not None


def test_freed_slots_are_used_again_lowest_first() -> None:
    table = SlotTable(8)
    slots = [table.acquire(key, [], 0) for key in "abcd"]
    for slot in slots:
        assert slot is not None
        table.park(slot, step=1)
    for key in "ca":
        table.release(key)
    again = table.acquire("e", [], 0)
    assert again is not None
    assert again.index == 0
    assert (len(table), table.num_made) == (3, 4)


def test_of_freed_slots_the_one_that_begins_most_alike_is_used_again() -> None:
    table = SlotTable(8)
    slots = [table.acquire(key, [], 0) for key in "abc"]
    for slot, ids in zip(slots, ([1, 2, 3], [1, 2, 4, 5], [9]), strict=True):
        assert slot is not None
        slot.ids = ids
        table.park(slot, step=1)
    for key in "ab":
        table.release(key)
    assert [slot.ids for slot in table.at_rest] == [[9], [1, 2, 3], [1, 2, 4, 5]]
    again = table.acquire("d", [1, 2, 4, 9], 0)
    assert again is not None
    assert (again.index, again.ids) == (1, [1, 2, 4, 5])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 2, 3], 3), ([5, 1], [6, 1], 0)],
)
def test_common_prefix(a: list[int], b: list[int], expected: int) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == expected


@given(st.lists(st.integers(0, 1), max_size=40), st.lists(st.integers(0, 1), max_size=40))
def test_common_prefix_is_the_number_of_equal_leading_tokens(a: list[int], b: list[int]) -> None:
    assert common_prefix(a, b) == sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def test_the_pool_keeps_its_content_when_it_grows_and_is_zero_elsewhere() -> None:
    pool = KVPool()
    pool.reserve(2, 10)
    keys, values = pool.layer(0, torch.ones(3, 1, 4), torch.ones(3, 1, 5))
    keys[1, :, :10] = 7.0
    values[1, :, :10] = 8.0
    pool.reserve(3, pool.capacity + 1)
    keys, values = pool.layer(0, torch.ones(3, 1, 4), torch.ones(3, 1, 5))
    assert keys.shape == (4, 3, pool.capacity, 4)
    assert values.shape == (4, 3, pool.capacity, 5)
    assert (keys[1, :, :10] == 7.0).all()
    assert (values[1, :, :10] == 8.0).all()
    assert (keys.sum(), values.sum()) == (7.0 * 3 * 10 * 4, 8.0 * 3 * 10 * 5)
    pool.wipe(slice(1, 2))
    assert not keys.any()
