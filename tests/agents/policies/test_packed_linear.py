"""Linear layers that compute with copies of their weights."""

from __future__ import annotations

import asyncio

import pytest
import torch
from torch import nn

from agentgym_rft.agents.policies.base import SampleRequest
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.packed_linear import SMALLEST, PackedLinears
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.trainers.sft.model import build_model

WIDE = ModelSection(
    vocab_size=300, hidden_size=512, intermediate_size=512, num_layers=1, num_heads=2, head_dim=256, max_context=64
)
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN")


def wide_model(seed=0):
    return build_model(WIDE, 300, seed=seed)


def sampled(policy, key="e"):
    """Log-probs of a greedy action after a prompt, and its ids."""
    done = asyncio.run(policy.sample(SampleRequest(key, tuple(range(10, 30)), 6, (), 0.0)))
    return done.ids, torch.tensor(done.logprobs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_the_large_layers_compute_the_same_and_are_left_as_they_were(rows, bias):
    torch.manual_seed(0)
    large, small = nn.Linear(512, SMALLEST // 512, bias=bias), nn.Linear(16, 16)
    linears, x = PackedLinears(nn.ModuleList([large, small])), torch.randn(rows, 512)
    expected = large(x)
    with torch.inference_mode(), linears.used():
        assert "forward" in vars(large)
        assert "forward" not in vars(small)
        torch.testing.assert_close(large(x), expected, rtol=1e-5, atol=1e-5)
    assert "forward" not in vars(large)
    assert large(x).requires_grad


def test_layers_that_torch_multiplies_well_or_that_train_otherwise_are_left_alone():
    with PackedLinears(nn.ModuleList([nn.Linear(512, 512).bfloat16(), nn.Linear(8, 8)])).used():
        pass

    class Adapted(nn.Linear):
        """Adds something of its own."""

    made = Adapted(512, 512)
    with PackedLinears(made).used():
        assert "forward" not in vars(made)


def test_a_policy_samples_as_its_model_computes_before_and_after_new_weights():
    model = wide_model()
    policy = HFPolicy(model, max_concurrency=2, max_context=64)
    for seed in (0, 1):
        if seed:
            policy.load(wide_model(seed).state_dict(), version=seed)
        ids, logprobs = sampled(policy)
        with torch.inference_mode():
            row = torch.tensor([[*range(10, 30), *ids]])
            expected = model(row).logits[0, 19:-1].log_softmax(-1).gather(1, row[0, 20:, None])[:, 0]
        torch.testing.assert_close(logprobs, expected, rtol=1e-4, atol=1e-4)


def test_copies_are_kept_while_an_episode_is_and_dropped_with_the_last():
    policy = HFPolicy(wide_model(), max_concurrency=2, max_context=64)
    kept = policy._engine._model.linears
    sampled(policy, "a")
    sampled(policy, "b")
    policy.release("a")
    assert kept.num_copies > 0
    policy.release("b")
    assert kept.num_copies == 0
