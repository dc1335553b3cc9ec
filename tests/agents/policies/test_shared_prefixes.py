"""The `hf` policy computes what rows begin with once, and nobody notices but the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.errors import PolicyError
from tests.agents.policies.tiny_lms import SERVED, ask, full_logprobs, make_model, tokens

PROMPT = tokens(40, seed=1)


async def sampled(policy: HFPolicy, rows: Sequence[Sequence[int]], count: int = 4) -> list[Completion]:
    return await asyncio.gather(*(policy.sample(ask(f"row-{n}", row, count, seed=n)) for n, row in enumerate(rows)))


def fed(policy: HFPolicy, rows: Sequence[Sequence[int]], count: int = 1) -> int:
    """Tokens fed for these rows, asked for at once."""
    before = policy.num_forward_tokens
    asyncio.run(sampled(policy, rows, count))
    return policy.num_forward_tokens - before


@pytest.mark.parametrize("name", SERVED)
def test_rows_that_begin_alike_sample_what_each_would_alone(name: str) -> None:
    model = make_model(name)
    rows = [PROMPT, PROMPT, [*PROMPT, *tokens(9, 2)], [*PROMPT[:25], *tokens(30, 3)], tokens(20, 4), PROMPT[:30]]
    together = asyncio.run(sampled(HFPolicy(model), rows))
    for number, (row, completion) in enumerate(zip(rows, together, strict=True)):
        alone = asyncio.run(HFPolicy(model).sample(ask("a", row, 4, seed=number)))
        assert completion.ids == alone.ids
        assert completion.logprobs == pytest.approx(full_logprobs(model, row, completion.ids), abs=1e-4)


def test_what_an_invariant_policy_samples_does_not_change_by_a_bit() -> None:
    rows = [PROMPT, PROMPT, [*PROMPT, *tokens(9, 2)], [*PROMPT[:25], *tokens(30, 3)], tokens(20, 4)]
    together = asyncio.run(sampled(HFPolicy(make_model(), is_invariant=True), rows))
    for number, row in enumerate(rows):
        alone = HFPolicy(make_model(), is_invariant=True)
        assert asyncio.run(alone.sample(ask("a", row, 4, seed=number))) == together[number]


def test_a_prompt_of_a_group_is_fed_once() -> None:
    assert fed(HFPolicy(make_model()), [PROMPT] * 8) == 40 + 7  # the last token of each gives its first sample
    branches = [[*PROMPT, seed, *tokens(9, seed)] for seed in range(8)]
    assert fed(HFPolicy(make_model()), branches) == 40 + 8 * 10


def test_a_prompt_that_takes_many_steps_is_waited_for() -> None:
    policy = HFPolicy(make_model())
    policy._engine._step_tokens = 7
    assert fed(policy, [PROMPT] * 8) == 40 + 7


@pytest.mark.parametrize(("others", "num_fed"), [(["other"], 9), ([], len(PROMPT) + 4 + 9)])
def test_a_retry_takes_over_the_turns_of_an_episode_that_is_over_while_another_one_lasts(
    others: list[str], num_fed: int
) -> None:
    policy = HFPolicy(make_model())

    async def episode_and_retry() -> int:
        for other in others:
            await policy.sample(ask(other, tokens(3, 8), 1))
        row = [*PROMPT, *(await policy.sample(ask("base", PROMPT, 4))).ids]
        await policy.sample(ask("base", [*row, *tokens(12, 5)], 4))
        policy.release("base")
        before = policy.num_forward_tokens
        await policy.sample(ask("retry", [*row, *tokens(9, 6)], 1))
        return policy.num_forward_tokens - before

    assert asyncio.run(episode_and_retry()) == num_fed


def test_forks_of_an_episode_that_goes_on_take_over_its_turns() -> None:
    policy = HFPolicy(make_model())
    asyncio.run(policy.sample(ask("base", PROMPT, 4)))
    assert fed(policy, [[*PROMPT, 3, 4], [*PROMPT, 5, 6]]) == 2 + 2


def test_new_weights_leave_nothing_to_take_over() -> None:
    policy = HFPolicy(make_model(seed=0))
    asyncio.run(policy.sample(ask("base", PROMPT, 4)))
    other = make_model(seed=1)
    policy.load(other.state_dict(), 1)
    completion = asyncio.run(policy.sample(ask("fork", PROMPT, 4, seed=2)))
    assert completion.logprobs == pytest.approx(full_logprobs(other, PROMPT, completion.ids), abs=1e-4)


@pytest.mark.parametrize("step_tokens", [7, 512])
def test_a_row_whose_source_is_released_feeds_the_rest_itself(step_tokens: int) -> None:
    policy = HFPolicy(make_model())
    policy._engine._step_tokens = step_tokens

    async def play() -> list[Completion | BaseException]:
        waiting = [asyncio.create_task(policy.sample(ask(key, PROMPT, 4, seed=3))) for key in "abc"]
        for _ in range(4):
            await asyncio.sleep(0)
        policy.release("a")
        return await asyncio.gather(*waiting, return_exceptions=True)

    released, *others = asyncio.run(play())
    assert isinstance(released, PolicyError)
    alone = asyncio.run(HFPolicy(make_model()).sample(ask("b", PROMPT, 4, seed=3)))
    assert [other.ids for other in others if isinstance(other, Completion)] == [alone.ids] * 2


def test_a_row_that_breaks_gives_nothing_to_others() -> None:
    model = make_model()
    policy = HFPolicy(model)
    embeddings = model.get_input_embeddings().weight.data
    embeddings[PROMPT[-1]] = float("nan")
    broken = [token for token in PROMPT if token != PROMPT[-1]]
    rows = [[*broken, PROMPT[-1]], [*broken, *tokens(9, 2)]]
    rows[1] = [token if token != PROMPT[-1] else 0 for token in rows[1]]

    async def play() -> list[Completion | BaseException]:
        asks = (policy.sample(ask(f"row-{n}", row, 4)) for n, row in enumerate(rows))
        return await asyncio.gather(*asks, return_exceptions=True)

    first, second = asyncio.run(play())
    assert isinstance(first, PolicyError)
    assert isinstance(second, Completion)


def test_with_fewer_slots_than_rows_all_sample_the_same() -> None:
    rows = [[*PROMPT[: 10 + n], *tokens(5, n)] for n in range(12)]
    few = asyncio.run(sampled(HFPolicy(make_model(), max_concurrency=3), rows))
    enough = asyncio.run(sampled(HFPolicy(make_model()), rows))
    assert [one.ids for one in few] == [one.ids for one in enough]
