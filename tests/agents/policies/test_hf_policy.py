"""Continuous batching of the `hf` policy: many episodes at once, each as if it were alone."""

from __future__ import annotations

import asyncio

import pytest
import torch

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.errors import PolicyError
from tests.agents.policies.tiny_lms import VOCAB, ask, full_logprobs, make_model, tokens


async def play(policy: HFPolicy, key: str, num_turns: int, pauses: int = 0) -> list[Completion]:
    """One episode of a growing row; `pauses` turns of the event loop pass in its environment."""
    seed = sum(map(ord, key))
    row, done = tokens(5 + seed % 40, seed), []
    for turn in range(num_turns):
        completion = await policy.sample(ask(key, row, 2 + (seed + turn) % 5, seed=seed + turn))
        done.append(completion)
        row = [*row, *completion.ids, *tokens(1 + turn % 9, seed + turn)]
        for _ in range(pauses):
            await asyncio.sleep(0)
    policy.release(key)
    return done


async def play_all(policy: HFPolicy, num_episodes: int, pauses: int = 0) -> list[list[Completion]]:
    return await asyncio.gather(*(play(policy, f"episode-{i}", 1 + i % 7, pauses) for i in range(num_episodes)))


def ids(games: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.ids for completion in game] for game in games]


async def alone(policy: HFPolicy, num_episodes: int) -> list[list[Completion]]:
    return [await play(policy, f"episode-{i}", 1 + i % 7) for i in range(num_episodes)]


def test_an_episode_samples_the_same_whatever_else_runs() -> None:
    policy = HFPolicy(make_model(), max_concurrency=16)
    together, one_by_one = asyncio.run(play_all(policy, 30)), asyncio.run(alone(policy, 30))
    assert ids(together) == ids(one_by_one)
    for a, b in zip(together, one_by_one, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.logprobs == pytest.approx(y.logprobs, abs=1e-4)


def test_two_runs_with_the_same_seeds_are_equal_to_the_bit() -> None:
    runs = [asyncio.run(play_all(HFPolicy(make_model(), max_concurrency=8), 20)) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(("slots", "pauses"), [(1, 0), (3, 0), (3, 20)])
def test_episodes_that_lose_their_slot_sample_the_same(slots: int, pauses: int) -> None:
    few = asyncio.run(play_all(HFPolicy(make_model(), max_concurrency=slots), 12, pauses))
    enough = asyncio.run(play_all(HFPolicy(make_model(), max_concurrency=12), 12))
    assert ids(few) == ids(enough)


def test_a_turn_feeds_only_what_the_cached_row_lacks() -> None:
    policy = HFPolicy(make_model())

    async def two_turns() -> list[int]:
        row = tokens(50, seed=1)
        row += (await policy.sample(ask("a", row, 4))).ids
        before = policy.num_forward_tokens
        await policy.sample(ask("a", row + tokens(6, seed=2), 4))
        return [before, policy.num_forward_tokens - before]

    # 50 + 3 of 4 sampled tokens; then the fourth, 6 new ones, and again 3 of 4
    assert asyncio.run(two_turns()) == [53, 10]


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_episodes_that_always_return_at_once_keep_their_slot_from_others(timeout_s: float | None) -> None:
    """More episodes than slots: the waiting ones get a slot when an episode ends, so no row is ever fed twice."""

    async def episode(policy: HFPolicy, key: str) -> None:
        row = tokens(20, seed=1)
        for turn in range(4):
            row += (await asyncio.wait_for(policy.sample(ask(key, row, 2 + turn)), timeout_s)).ids
        policy.release(key)

    async def episodes(policy: HFPolicy) -> None:
        await asyncio.gather(*(episode(policy, f"episode-{i}") for i in range(9)))

    def fed(slots: int) -> int:
        policy = HFPolicy(make_model(), max_concurrency=slots)
        asyncio.run(episodes(policy))
        return policy.num_forward_tokens

    assert fed(3) == fed(9)


def test_a_rewritten_history_is_fed_from_where_it_differs() -> None:
    model = make_model()
    policy = HFPolicy(model)

    async def rewrite() -> tuple[list[int], Completion]:
        row = tokens(40, seed=3)
        await policy.sample(ask("a", row, 5))
        row = [*row[:20], (row[20] + 1) % VOCAB, *row[30:]]
        return row, await policy.sample(ask("a", row, 5))

    row, completion = asyncio.run(rewrite())
    assert completion.logprobs == pytest.approx(full_logprobs(model, row, completion.ids), abs=1e-4)


def test_the_same_prompt_again_gives_the_same_sample() -> None:
    policy = HFPolicy(make_model())

    async def twice() -> list[Completion]:
        return [await policy.sample(ask("a", tokens(20, seed=4), seed=9)) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert first.ids == second.ids


def test_prompts_longer_than_a_step_are_fed_in_parts() -> None:
    model = make_model("gpt2")
    policy = HFPolicy(model)
    rows = {f"long-{i}": tokens(200 + i, seed=i) for i in range(5)}  # more than 512 tokens in all

    async def together() -> list[Completion]:
        return await asyncio.gather(*(policy.sample(ask(key, row, 3)) for key, row in rows.items()))

    for row, completion in zip(rows.values(), asyncio.run(together()), strict=True):
        assert completion.logprobs == pytest.approx(full_logprobs(model, row, completion.ids), abs=1e-4)


def test_a_stop_id_ends_the_action_and_is_part_of_it() -> None:
    policy = HFPolicy(make_model())

    async def with_stop() -> tuple[Completion, Completion]:
        free = await policy.sample(ask("a", tokens(12, seed=5), 8, seed=3))
        return free, await policy.sample(SampleRequest("b", tokens(12, seed=5), 8, (free.ids[3],), 1.0, 3))

    free, stopped = asyncio.run(with_stop())
    end = free.ids.index(free.ids[3]) + 1
    assert (free.stop, stopped.stop) == ("length", "stop")
    assert stopped.ids == free.ids[:end]


def test_release_frees_the_slot_and_unknown_keys_are_fine() -> None:
    policy = HFPolicy(make_model())

    async def run() -> list[int]:
        await policy.sample(ask("a", [1, 2, 3]))
        await policy.sample(ask("b", [1, 2, 3]))
        counts = [policy.num_cached]
        policy.release("a")
        policy.release("nobody")
        return [*counts, policy.num_cached]

    assert asyncio.run(run()) == [2, 1]


def test_releasing_a_running_episode_fails_its_request_only() -> None:
    policy = HFPolicy(make_model())

    async def run() -> list[Completion | BaseException]:
        tasks = [asyncio.ensure_future(policy.sample(ask(key, [1, 2, 3], 20))) for key in "ab"]
        for _ in range(5):
            await asyncio.sleep(0)
        policy.release("a")
        return await asyncio.gather(*tasks, return_exceptions=True)

    lost, kept = asyncio.run(run())
    assert isinstance(lost, PolicyError)
    assert isinstance(kept, Completion)
    assert policy.num_cached == 1


def test_a_cancelled_request_leaves_the_others_alone_and_its_key_usable() -> None:
    policy = HFPolicy(make_model(), max_concurrency=2)

    async def run() -> tuple[Completion, Completion]:
        other = asyncio.ensure_future(policy.sample(ask("b", [4, 5, 6], 20)))
        victim = asyncio.ensure_future(policy.sample(ask("a", [1, 2, 3], 50)))
        for _ in range(5):
            await asyncio.sleep(0)
        victim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await victim
        return await policy.sample(ask("a", [1, 2, 3], 5)), await other

    async def plain() -> tuple[Completion, Completion]:
        return await policy.sample(ask("c", [1, 2, 3], 5)), await policy.sample(ask("d", [4, 5, 6], 20))

    assert [c.ids for c in asyncio.run(run())] == [c.ids for c in asyncio.run(plain())]


def test_a_policy_goes_on_after_an_event_loop_that_was_cut_off() -> None:
    policy = HFPolicy(make_model())

    async def cut_off() -> None:
        task = asyncio.ensure_future(policy.sample(ask("a", [1, 2, 3], 100)))
        for _ in range(4):
            await asyncio.sleep(0)
        assert not task.done()

    async def go_on() -> Completion:
        return await policy.sample(ask("a", [1, 2, 3], 4))

    asyncio.run(cut_off())
    assert len(asyncio.run(go_on()).ids) == 4


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ask("a", [1] * 250, 7), "more than max_context 256"),
        (ask("a", [], 7), "at least 1"),
        (ask("a", [1], 0), "at least 1"),
        (ask("a", [1, VOCAB], 3), "token ids from 1 to 61"),
        (ask("a", [1, -1], 3), "token ids from -1"),
        (ask("a", [1], 3, temperature=-0.5), "temperature -0.5"),
        (ask("a", [1], 3, temperature=float("nan")), "temperature nan"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(request_: SampleRequest, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        asyncio.run(HFPolicy(make_model()).sample(request_))


def test_two_requests_of_one_episode_at_once_are_refused() -> None:
    policy = HFPolicy(make_model())

    async def run() -> list[Completion | BaseException]:
        both = [policy.sample(ask("a", [1, 2, 3])) for _ in range(2)]
        return await asyncio.gather(*both, return_exceptions=True)

    first, second = asyncio.run(run())
    assert isinstance(first, Completion)
    assert isinstance(second, PolicyError)


def test_load_changes_the_samples_and_the_version() -> None:
    policy, other = HFPolicy(make_model()), make_model(seed=1)

    async def sample() -> Completion:
        return await policy.sample(ask("a", tokens(20, seed=6), 12))

    before = asyncio.run(sample())
    policy.load(other.state_dict(), version=3)
    after = asyncio.run(sample())
    assert (before.policy_version, after.policy_version, policy.version) == (0, 3, 3)
    assert before.ids != after.ids
    assert after.logprobs == pytest.approx(full_logprobs(other, tokens(20, seed=6), after.ids), abs=1e-4)


def test_load_is_refused_while_a_request_runs() -> None:
    policy = HFPolicy(make_model())

    async def run() -> Completion:
        task = asyncio.ensure_future(policy.sample(ask("a", [1, 2, 3], 20)))
        for _ in range(4):
            await asyncio.sleep(0)
        with pytest.raises(PolicyError, match="while 1 requests are sampling"):
            policy.load(make_model(seed=1).state_dict(), version=1)
        return await task

    assert asyncio.run(run()).policy_version == 0


def test_requests_that_span_an_update_go_on_under_the_new_weights_and_say_so() -> None:
    old, new = make_model(), make_model(seed=1)
    policy = HFPolicy(make_model(), max_concurrency=2, spans_versions=True, version=4)
    prompts = [tokens(20 + i, i) for i in range(3)]

    async def play_through() -> list[Completion]:
        asking = [policy.sample(ask(f"k{i}", prompt, 12, seed=i)) for i, prompt in enumerate(prompts)]
        running = [asyncio.ensure_future(request) for request in asking]
        while policy.num_forward_tokens < sum(map(len, prompts[:2])) + 2 * 5:  # two rows run, the third waits
            await asyncio.sleep(0)
        policy.load(new.state_dict(), version=5)
        return list(await asyncio.gather(*running))

    first, second, waited = asyncio.run(play_through())
    for prompt, completion in zip(prompts, (first, second), strict=False):
        assert (completion.policy_version, completion.last_version) == (4, 5)
        under_old, under_new = (full_logprobs(model, prompt, completion.ids) for model in (old, new))
        is_old = [abs(logprobs - a) < 1e-4 for logprobs, a in zip(completion.logprobs, under_old, strict=True)]
        num_old = sum(is_old)
        assert 0 < num_old < 12
        assert is_old == [True] * num_old + [False] * (12 - num_old)
        assert completion.logprobs[num_old:] == pytest.approx(under_new[num_old:], abs=1e-4)
    assert (waited.policy_version, waited.last_version) == (5, None)
    assert waited.ids == asyncio.run(HFPolicy(new).sample(ask("alone", prompts[2], 12, seed=2))).ids


def test_load_refuses_other_names_and_shapes_and_changes_nothing() -> None:
    model = make_model()
    policy, before = HFPolicy(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    new = make_model(seed=1).state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(PolicyError, match=f"lack '{name}'"):
        policy.load({key: value for key, value in new.items() if key != name}, 1)
    with pytest.raises(PolicyError, match="no weights named 'head'"):
        policy.load({**new, "head": new[name]}, 1)
    with pytest.raises(PolicyError, match="shape"):
        policy.load({**new, name: new[name][:-1]}, 1)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert policy.version == 0


async def sample_rows_of(policy: HFPolicy, lengths: list[int], count: int = 3) -> list[Completion | BaseException]:
    requests = [ask(f"row-{length}", tokens(length, seed=7), count) for length in lengths]
    return await asyncio.gather(*(policy.sample(request) for request in requests), return_exceptions=True)


def nan_like(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, float("nan")) for name, tensor in weights.items()}


def test_nan_weights_fail_every_request_and_good_ones_make_it_whole_again() -> None:
    policy, good = HFPolicy(make_model()), make_model(seed=1).state_dict()
    policy.load(nan_like(good), 1)
    assert all(isinstance(result, PolicyError) for result in asyncio.run(sample_rows_of(policy, [40, 41, 42])))
    policy.load(good, 2)
    assert all(isinstance(result, Completion) for result in asyncio.run(sample_rows_of(policy, [10, 90])))


def test_a_row_of_nan_fails_alone_and_leaves_nothing_in_its_slot() -> None:
    policy, weights = HFPolicy(make_model()), make_model().state_dict()
    weights["model.embed_tokens.weight"][5] = float("nan")
    policy.load(weights, 1)
    fine = [1, 2, 3, 4, *[6] * 90]

    async def run() -> list[Completion | BaseException]:
        both = [policy.sample(ask("bad", [5] * 80, 3)), policy.sample(ask("fine", fine, 3))]
        bad, other = await asyncio.gather(*both, return_exceptions=True)
        policy.release("bad")
        again = [policy.sample(ask("short", [1, 2, 3], 3)), policy.sample(ask("fine", [*fine, 7], 3))]
        return [bad, other, *await asyncio.gather(*again, return_exceptions=True)]

    bad, *others = asyncio.run(run())
    assert isinstance(bad, PolicyError)
    assert "not finite" in str(bad)
    assert all(isinstance(result, Completion) for result in others)


def test_load_wipes_what_rows_of_older_weights_wrote() -> None:
    policy, good = HFPolicy(make_model()), make_model(seed=1).state_dict()
    policy.load(nan_like(good), 1)

    async def cut_short() -> None:
        task = asyncio.ensure_future(sample_rows_of(policy, [200, 201, 202]))  # takes more than one step to feed
        while policy.num_forward_tokens == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut_short())
    policy.load(good, 2)
    assert all(isinstance(result, Completion) for result in asyncio.run(sample_rows_of(policy, [10, 240, 20])))


def test_a_failing_forward_pass_fails_all_requests_and_the_policy_recovers() -> None:
    model = make_model()
    policy = HFPolicy(model)
    norm = model.model.norm.weight.data

    async def run() -> list[Completion | BaseException]:
        return await asyncio.gather(*(policy.sample(ask(key, [1, 2], 2)) for key in "ab"), return_exceptions=True)

    model.model.norm.weight.data = torch.ones(3)  # of a wrong size: torch raises RuntimeError
    results = asyncio.run(run())
    model.model.norm.weight.data = norm
    assert all(isinstance(result, PolicyError) and "failed while sampling" in str(result) for result in results)
    assert all(isinstance(result, Completion) for result in asyncio.run(run()))
