"""A policy with a journal takes from it what was sampled before, as long as the episode goes the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import torch

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.rollouts.journaled import JournaledPolicy


class Counting(ScriptedPolicy):
    """Says the last token of its prompt, and remembers whom it answered."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: [prompt[-1], 9])
        self.asked: list[tuple[str, int]] = []

    async def sample(self, request: SampleRequest) -> Completion:
        self.asked.append((request.cache_key, request.seed))
        return await super().sample(request)


@pytest.fixture
def lives():
    """What begins a life of a run, which ends with the test."""
    with ExitStack() as stack:

        def begin(folder: Path, policy: Counting, *, is_new: bool = False) -> JournaledPolicy:
            journaled = stack.enter_context(closing(JournaledPolicy(policy)))
            journaled.begin(folder, 0, is_new=is_new)
            return journaled

        yield begin


def play(policy: JournaledPolicy, key: str, prompts: Sequence[Sequence[int]], *, ends: bool = True) -> list[Completion]:
    async def turns() -> list[Completion]:
        return [await policy.sample(SampleRequest(key, p, 4, (9,), seed=n)) for n, p in enumerate(prompts)]

    done = asyncio.run(turns())
    if ends:
        policy.release(key)
    return done


def test_an_episode_goes_on_where_its_record_ends(tmp_path, lives):
    first = play(lives(tmp_path, Counting(), is_new=True), "a", [[1], [2]], ends=False)
    policy = Counting()
    again = lives(tmp_path, policy)
    assert play(again, "a", [[1], [2], [3]])[:2] == first
    assert policy.asked == [("a", 2)]
    assert again.take_counts() == {"resume/replayed": 2.0, "resume/diverged": 0.0}
    assert again.take_counts() == {}


def test_an_episode_that_goes_another_way_is_sampled_anew_from_there_and_counted(tmp_path, lives):
    play(lives(tmp_path, Counting(), is_new=True), "a", [[1], [2], [3], [4]])
    policy = Counting()
    again = lives(tmp_path, policy)
    play(again, "a", [[1], [7], [3]])
    assert policy.asked == [("a", 1), ("a", 2)]
    assert again.take_counts() == {"resume/replayed": 1.0, "resume/diverged": 3.0}


def test_what_an_episode_that_ended_earlier_did_not_ask_for_is_counted(tmp_path, lives):
    play(lives(tmp_path, Counting(), is_new=True), "a", [[1], [2]])
    again = lives(tmp_path, Counting())
    play(again, "a", [[1]])
    assert again.take_counts()["resume/diverged"] == 1.0


def test_what_other_weights_said_is_not_taken(tmp_path, lives):
    def loaded(value: float, is_new: bool = False) -> tuple[JournaledPolicy, Counting]:
        policy = Counting()
        journaled = lives(tmp_path, policy, is_new=is_new)
        journaled.load({"w": torch.full((3,), value)}, 1)
        return journaled, policy

    play(loaded(0.5, is_new=True)[0], "a", [[1]])
    same, policy = loaded(0.5)
    play(same, "a", [[1]])
    assert policy.asked == []
    other, policy = loaded(0.25)
    play(other, "a", [[1]])
    assert policy.asked == [("a", 0)]
