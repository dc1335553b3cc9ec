"""Adapters on models whose weights are laid out otherwise: GPT-2's transposed layers, and experts in one parameter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.cli.main import run
from agentgym_rft.config.run import AlgorithmSection, Config, LoraSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.learner.lora import Adapter, add_lora
from agentgym_rft.trainers.loop import train
from tests.light_switch import weights_of
from tests.trainers.test_loop import assert_equal_weights, switch_config
from tests.trainers.tiny import tiny_model

peft = pytest.importorskip("peft")
IDS = torch.arange(12)[None]


def gpt2(vocab_size: int = 30) -> GPT2LMHeadModel:
    """A tiny GPT-2, whose layers are `Conv1D` and hold their weights as [in, out]."""
    torch.manual_seed(0)
    ids = {"bos_token_id": None, "eos_token_id": None}
    shape = GPT2Config(vocab_size=vocab_size, n_embd=16, n_layer=2, n_head=2, n_positions=64, **ids)
    return GPT2LMHeadModel(shape).eval()


def qwen3_moe(vocab_size: int = 30) -> Qwen3MoeForCausalLM:
    """A tiny Qwen3-MoE, whose experts are one parameter [experts, out, in]."""
    torch.manual_seed(0)
    shape = Qwen3MoeConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        moe_intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
    )
    return Qwen3MoeForCausalLM(shape).eval()


MODELS: dict[str, Callable[..., Any]] = {"gpt2": gpt2, "qwen3_moe": qwen3_moe}


def adapted(make: Callable[..., Any], section: LoraSection) -> tuple[Any, Adapter]:
    model = make()
    adapter = add_lora(model, section, 0)
    assert adapter is not None
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.normal_(0, 0.3, generator=generator)
    return model, adapter


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_merged_weights_give_the_logits_of_the_base_with_its_adapters(make):
    model, adapter = adapted(make, LoraSection(rank=2))
    expected = model(IDS).logits
    assert (expected - make()(IDS).logits).abs().max() > 0.1
    plain = make()
    plain.load_state_dict(adapter.merged(model.state_dict()))
    torch.testing.assert_close(plain(IDS).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_saved_adapters_are_read_by_peft(make, tmp_path):
    model, adapter = adapted(make, LoraSection(rank=2))
    adapter.save(tmp_path, model.state_dict())
    back = peft.PeftModel.from_pretrained(make(), tmp_path)
    torch.testing.assert_close(back(IDS).logits, model(IDS).logits)


def test_transposed_layers_may_be_named_as_targets():
    model, _ = adapted(gpt2, LoraSection(rank=2, targets=("c_attn",)))
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert len(trained) == 4
    assert all(".c_attn.lora_" in name for name in trained)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_fresh_adapters_change_nothing(make):
    model, expected = make(), make()(IDS).logits
    add_lora(model, LoraSection(rank=2), 0)
    assert torch.equal(model(IDS).logits, expected)


def test_adapters_that_cannot_be_merged_are_refused_at_once(recwarn):
    model = tiny_model(dtype=torch.float32)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    with pytest.raises(ConfigError, match=r"adapters of Qwen3ForCausalLM cannot be merged .* differ by") as raised:
        add_lora(model, LoraSection(rank=2, targets=("q_proj", "lm_head")), 0)
    assert str(raised.value).count("\n") == 0
    assert not [warning for warning in recwarn if "peft" in warning.filename], "the refusal says it all"


@pytest.fixture(scope="module", params=MODELS)
def policy(request, switch_policy, tmp_path_factory) -> Path:
    """A random policy of the model's kind, with the tokenizer of `LightSwitch`."""
    _, tokenizer = load_model(switch_policy, device="cpu")
    folder = tmp_path_factory.mktemp("policy") / request.param
    save_model(folder, MODELS[request.param](len(tokenizer)), tokenizer)
    return folder


def lora_config(policy: Path, out: Path, steps: int) -> Config:
    """A run with an entropy bonus: a random policy never wins, so nothing else has a gradient."""
    config = switch_config(policy, out, steps=steps, lora={"rank": 2})
    return config.model_copy(update={"algorithm": AlgorithmSection(entropy_coef=1.0)})


def test_a_run_saves_merged_checkpoints_goes_on_bit_for_bit_and_is_a_policy(policy, tmp_path):
    train(lora_config(policy, tmp_path / "whole", 2))
    train(lora_config(policy, tmp_path / "parts", 1))
    train(lora_config(policy, tmp_path / "parts", 2), resume=tmp_path / "parts")
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")
    place = tmp_path / "whole/checkpoints/step-000002"
    merged, base = weights_of(place / "model"), weights_of(policy)
    assert merged.keys() == base.keys()
    assert any(not torch.equal(merged[name], base[name]) for name in base)
    back = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(policy), place / "adapter")
    whole = AutoModelForCausalLM.from_pretrained(place / "model")
    torch.testing.assert_close(back(IDS).logits, whole(IDS).logits, rtol=1e-4, atol=1e-4)
    options = ["--env", "tests.light_switch:LightSwitch", "--tasks", "3", "--out", str(tmp_path / "result.json")]
    assert run(["eval", "--policy", str(tmp_path / "whole"), *options]) == 0
