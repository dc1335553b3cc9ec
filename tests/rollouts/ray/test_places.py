from __future__ import annotations

import asyncio

import pytest

from agentgym_rft.errors import WorkersError
from agentgym_rft.rollouts.ray.places import Places


def test_the_emptiest_worker_gets_the_next_episode():
    async def taken():
        places: Places[str] = Places()
        places.add("a", 1)
        places.add("b", 3)
        return [await places.take() for _ in range(4)]

    assert asyncio.run(taken()) in (["b", "b", "a", "b"], ["b", "b", "b", "a"])


def test_who_waits_longest_gets_the_place_that_becomes_free():
    async def served():
        places: Places[str] = Places()
        places.add("a", 0)
        order = []

        async def wait(name):
            await places.take()
            order.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in range(3)]
        await asyncio.sleep(0)
        for _ in tasks:
            places.give("a")
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(served()) == [0, 1, 2]


def test_a_place_that_came_too_late_goes_to_the_next_in_line():
    async def left_over():
        places: Places[str] = Places()
        places.add("a", 0)
        late, patient = (asyncio.create_task(places.take()) for _ in range(2))
        await asyncio.sleep(0)
        places.give("a")
        late.cancel()  # in the turn of the loop in which its place came
        with pytest.raises(asyncio.CancelledError):
            await late
        return await asyncio.wait_for(patient, 5)

    assert asyncio.run(left_over()) == "a"


def test_places_of_a_worker_that_is_gone_do_not_come_back():
    async def rest():
        places: Places[str] = Places()
        places.add("gone", 2)
        places.add("here", 1)
        await places.take()
        places.remove("gone")
        places.give("gone")
        return await places.take()

    assert asyncio.run(rest()) == "here"


def test_a_failure_reaches_those_who_wait_and_those_who_come():
    async def refused():
        places: Places[str] = Places()
        waiting = asyncio.create_task(places.take())
        await asyncio.sleep(0)
        places.fail(WorkersError("all gone"))
        return await asyncio.gather(waiting, places.take(), return_exceptions=True)

    assert [str(error) for error in asyncio.run(refused())] == ["all gone", "all gone"]
