"""The `hf` policy gives each architecture's own distribution, or refuses the architecture."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.errors import ConfigError, PolicyError
from tests.agents.policies.tiny_lms import REFUSED, SERVED, VOCAB, ask, full_logprobs, make_model, tokens


async def play(policy: HFPolicy, key: str, num_turns: int, temperature: float) -> list[tuple[list[int], Completion]]:
    """Turns of one growing row: the prompt of each and what was sampled."""
    row, turns = tokens(10 + num_turns, seed=len(key)), []
    for turn in range(num_turns):
        completion = await policy.sample(ask(key, row, 6, temperature, seed=turn))
        turns.append((row, completion))
        row = [*row, *completion.ids, *tokens(7, seed=turn)]
    return turns


async def play_several(policy: HFPolicy, temperature: float) -> list[tuple[list[int], Completion]]:
    """Three rows of different lengths at once, longer than the sliding windows."""
    games = await asyncio.gather(*(play(policy, "x" * n, n, temperature) for n in (2, 4, 7)))
    return [turn for game in games for turn in game]


@pytest.mark.parametrize("name", SERVED)
def test_logprobs_equal_a_full_forward_pass(name: str) -> None:
    model = make_model(name)
    for prompt, completion in asyncio.run(play_several(HFPolicy(model), temperature=1.0)):
        expected = full_logprobs(model, prompt, completion.ids)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SERVED)
def test_greedy_ids_equal_generate_on_the_growing_conversation(name: str) -> None:
    model = make_model(name)
    for prompt, completion in asyncio.run(play_several(HFPolicy(model), temperature=0.0)):
        row = torch.tensor([prompt])
        out = model.generate(row, attention_mask=torch.ones_like(row), max_new_tokens=6, do_sample=False)
        assert list(completion.ids) == out[0, len(prompt) :].tolist()


def test_the_tiny_models_depend_on_far_tokens() -> None:
    model = make_model("qwen3")
    near, far = tokens(60, seed=1), tokens(60, seed=1)
    far[0] = (far[0] + 1) % VOCAB
    changed = [a - b for a, b in zip(full_logprobs(model, near, [3]), full_logprobs(model, far, [3]), strict=True)]
    assert max(abs(d) for d in changed) > 1e-3


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_needs_more_than_keys_and_values_is_refused(name: str) -> None:
    with pytest.raises(PolicyError, match="cannot be served by the hf policy"):
        HFPolicy(make_model(name))


def qwen3(**changes: Any) -> Qwen3ForCausalLM:
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "max_position_embeddings": 64}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, **heads, **changes))


def test_rotary_positions_that_depend_on_the_batch_are_refused() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(PolicyError, match="dynamic"):
        HFPolicy(qwen3(rope_parameters=rope))


def test_a_context_beyond_the_models_own_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 to 64 tokens"):
        HFPolicy(qwen3(), max_context=65)
    assert HFPolicy(qwen3()).max_context == 64


def test_damaged_weights_are_refused_at_once() -> None:
    model = make_model()
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(PolicyError, match="not finite"):
        HFPolicy(model)


def test_the_model_keeps_its_own_attention_for_other_users() -> None:
    model = make_model()
    before = model.config._attn_implementation
    asyncio.run(play(HFPolicy(model), "a", 1, 1.0))
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("name", SERVED)
def test_bfloat16_logprobs_are_near_those_of_a_full_pass(name: str) -> None:
    model = make_model(name).to(torch.bfloat16)
    for prompt, completion in asyncio.run(play_several(HFPolicy(model), temperature=1.0)):
        assert completion.logprobs == pytest.approx(full_logprobs(model, prompt, completion.ids), abs=0.3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_logprobs_on_cuda_equal_a_full_forward_pass_on_the_cpu() -> None:
    turns = asyncio.run(play_several(HFPolicy(make_model(), device="cuda"), temperature=1.0))
    for prompt, completion in turns:
        assert completion.logprobs == pytest.approx(full_logprobs(make_model(), prompt, completion.ids), abs=1e-3)
