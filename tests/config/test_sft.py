from __future__ import annotations

import pytest

from agentgym_rft.config.load import load_sft_config, validate_sft_config
from agentgym_rft.config.run import LoraSection
from agentgym_rft.config.sft import SftConfig, SftSection


def test_a_model_from_scratch_trains_with_muon_on_all_tokens_and_is_not_evaluated():
    config = load_sft_config()
    assert (config.sft.optimizer, config.sft.learning_rate, config.sft.context_weight) == ("muon", 3e-3, 0.3)
    assert (config.sft.packing, config.sft.micro_batch_tokens, config.sft.bf16) == ("padded", None, False)
    assert config.eval.num_tasks == 0


def test_a_pretrained_model_trains_with_adamw_on_packed_actions_and_is_evaluated():
    config = load_sft_config(None, [(["init"], "some/dir")])
    assert (config.sft.optimizer, config.sft.learning_rate, config.sft.context_weight) == ("adamw", 1e-4, 0.0)
    assert (config.sft.packing, config.sft.micro_batch_tokens, config.sft.bf16) == ("auto", 256, "auto")
    assert (config.sft.gradient_checkpointing, config.eval.num_tasks) == ("long_rows", 100)


@pytest.mark.parametrize(
    ("sft", "rate"),
    [
        ({"lora": {"rank": 4}}, 1e-3),
        ({"lora": {"rank": 0}}, 1e-4),
        ({"optimizer": "muon"}, 3e-3),
        ({"optimizer": "adamw", "learning_rate": 5e-5}, 5e-5),
    ],
)
def test_the_learning_rate_fits_the_optimizer_and_the_adapters(sft, rate):
    assert validate_sft_config({"init": "some/dir", "sft": sft}).sft.learning_rate == rate


def test_sections_as_objects_keep_what_they_say_and_no_more():
    section = SftSection(lora=LoraSection(rank=2), context_weight=0.3)
    config = SftConfig(init="some/dir", sft=section)
    assert (config.sft.lora.rank, config.sft.context_weight, config.sft.learning_rate) == (2, 0.3, 1e-3)


def test_a_resolved_configuration_loads_as_it_is():
    for init in ("scratch", "some/dir"):
        config = load_sft_config(None, [(["init"], init), (["sft", "bf16"], False)])
        assert validate_sft_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("recipe", ["seed_reflect", "webshop_seed_copy"])
def test_recipes_that_go_on_from_a_seed_policy_train_it_as_it_was_made(recipe):
    sft = load_sft_config(recipe).sft
    assert (sft.optimizer, sft.packing, sft.micro_batch_tokens, sft.context_weight) == ("muon", "padded", None, 0.3)
    assert sft.gradient_checkpointing == "never"
