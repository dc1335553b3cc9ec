from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from agentgym_rft.agents.policies.ragged import RaggedModel
from agentgym_rft.agents.policies.support import check_model
from agentgym_rft.cli.main import run
from agentgym_rft.config.run import AlgorithmSection, LoraSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.learner.lora import add_lora
from agentgym_rft.trainers.learner.optimizer import make_optimizer
from agentgym_rft.trainers.learner.scoring import make_scorer
from agentgym_rft.trainers.loop import train
from tests.light_switch import weights_of
from tests.trainers.learner.processes import agentgym
from tests.trainers.learner.test_processes import assert_close_weights, recipe
from tests.trainers.test_loop import assert_equal_weights, switch_config
from tests.trainers.tiny import CFG, tiny_batch, tiny_model, update

peft = pytest.importorskip("peft")
LORA = {"lora": {"rank": 4}}


def adapted(section: LoraSection, seed: int = 0):
    """A tiny model with random adapters."""
    model = tiny_model(dtype=torch.float32)
    adapter = add_lora(model, section, seed)
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.normal_(0, 0.3, generator=generator)
    return model, adapter


IDS = torch.arange(12)[None]


def test_fresh_adapters_change_nothing_and_are_the_same_for_the_same_seed():
    base, model = tiny_model(dtype=torch.float32), tiny_model(dtype=torch.float32)
    expected = base(IDS).logits
    state = torch.get_rng_state()
    add_lora(model, LoraSection(rank=2), 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model(IDS).logits, expected)
    again = tiny_model(dtype=torch.float32)
    torch.manual_seed(99)
    add_lora(again, LoraSection(rank=2), 3)
    mine, theirs = model.state_dict(), again.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert any("lora_A" in name and mine[name].abs().max() > 0 for name in mine)


@pytest.mark.parametrize("section", [LoraSection(rank=2), LoraSection(rank=3, alpha=7.5, targets=("q_proj", "v_proj"))])
def test_merged_weights_are_pefts_own_and_give_the_adapted_models_logits(section):
    model, adapter = adapted(section)
    merged = adapter.merged(model.state_dict())
    expected = model(IDS).logits
    plain = tiny_model(dtype=torch.float32)
    plain.load_state_dict(merged)
    torch.testing.assert_close(plain(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert (expected - tiny_model(dtype=torch.float32)(IDS).logits).abs().max() > 0.1
    theirs = copy.deepcopy(adapter.wrapper).merge_and_unload().state_dict()
    assert theirs.keys() == merged.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(merged[name], tensor)


def test_saved_adapters_are_read_by_peft(tmp_path):
    model, adapter = adapted(LoraSection(rank=2))
    adapter.save(tmp_path, model.state_dict())
    back = peft.PeftModel.from_pretrained(tiny_model(dtype=torch.float32), tmp_path)
    assert torch.equal(back(IDS).logits, model(IDS).logits)


def test_the_hf_policy_serves_a_model_with_adapters():
    model, _ = adapted(LoraSection(rank=2))
    check_model(RaggedModel(model), 64)  # raises unless cached rows give the model's own logits


def test_an_update_changes_the_adapters_alone():
    model = tiny_model(dtype=torch.float32)
    table, rows = tiny_batch(model)
    add_lora(model, LoraSection(rank=2), 0)
    optimizer = make_optimizer(model, CFG)
    before = copy.deepcopy(model.state_dict())
    update(make_scorer(model), optimizer, table, rows, build_algorithm(AlgorithmSection()), CFG, Context())
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if "lora_B" in name}  # A has no gradient while B is 0
    assert {name for group in optimizer.param_groups for name in group["param_names"]} == {
        name for name in before if "lora_" in name
    }


@pytest.mark.parametrize(
    ("targets", "message"),
    [(("q_prj",), "'q_prj' is not in the model. Linear: .*q_proj"), (("input_layernorm",), "is no linear layer")],
)
def test_targets_that_are_not_there_are_refused(targets, message):
    with pytest.raises(ConfigError, match=message):
        add_lora(tiny_model(), LoraSection(rank=2, targets=targets), 0)


def test_without_peft_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'agentgym-rft\[peft\]'"):
        add_lora(tiny_model(), LoraSection(rank=2), 0)


@pytest.fixture(scope="module")
def learned(switch_policy, tmp_path_factory):
    """The directory of a run that trained adapters."""
    config = switch_config(switch_policy, tmp_path_factory.mktemp("lora") / "run", steps=10, **LORA)
    return train(config)


def test_adapters_learn_in_step_with_the_policy_that_samples_from_them(learned, switch_policy):
    rows = read_metrics(learned.run_dir / "metrics.jsonl")
    assert max(row["drift/logprob_max"] for row in rows) < 1e-3
    assert learned.evaluations[-1]["success"] > learned.evaluations[0]["success"]
    place = learned.run_dir / "checkpoints/step-000010"
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["adapter", "model", "trainer"]
    merged, base = weights_of(place / "model"), weights_of(switch_policy)
    assert merged.keys() == base.keys()
    assert torch.equal(merged["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
    back = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(switch_policy), place / "adapter")
    ids = torch.arange(20)[None]
    torch.testing.assert_close(
        back(ids).logits, AutoModelForCausalLM.from_pretrained(place / "model")(ids).logits, rtol=1e-4, atol=1e-4
    )


def test_the_merged_model_of_a_checkpoint_is_a_policy(learned, tmp_path):
    options = ["--env", "tests.light_switch:LightSwitch", "--tasks", "5", "--out", str(tmp_path / "result.json")]
    assert run(["eval", "--policy", str(learned.run_dir), *options]) == 0


def test_a_run_that_lags_behind_plays_with_merged_weights(switch_policy, tmp_path):
    result = train(switch_config(switch_policy, tmp_path / "run", sync_interval=2, **LORA))
    rows = read_metrics(result.run_dir / "metrics.jsonl")
    assert 0 < max(row["drift/logprob_max"] for row in rows) < 1e-3


def test_a_run_with_adapters_goes_on_bit_for_bit(switch_policy, tmp_path):
    train(switch_config(switch_policy, tmp_path / "whole", **LORA))
    train(switch_config(switch_policy, tmp_path / "parts", **{**LORA, "steps": 2}))
    train(switch_config(switch_policy, tmp_path / "parts", **LORA), resume=tmp_path / "parts")
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")


def test_two_processes_train_the_adapters_that_one_trains(switch_policy, tmp_path):
    one = recipe(switch_policy, tmp_path / "one", steps=4, trainer=LORA)
    assert run(["train", "--recipe", one]) == 0
    two = recipe(switch_policy, tmp_path / "two", steps=1, trainer=LORA)
    assert run(["train", "--recipe", two]) == 0
    resume = ["train", "--resume", str(tmp_path / "two/run")]
    for steps, strategy in (("2", "fsdp2"), ("3", "ddp")):
        words = [*resume, "--steps", steps, f"--trainer.parallel.strategy={strategy}"]
        started = agentgym(words, tmp_path / strategy)
        assert started.codes() == [0, 0], started.log(0)[-3000:]
    assert run([*resume, "--steps", "4", "--trainer.parallel.strategy=auto"]) == 0
    assert_close_weights(tmp_path / "one/run", tmp_path / "two/run", atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainer": {"lora": {"rank": 0}}}, "a run that trained adapters"),
        ({"trainer": {"lora": {"rank": 2}}}, "of another model: 'model.layers.0.* is "),
        ({"trainer": {"lora": {"rank": 4, "targets": ["q_proj"]}}}, "this model does not"),
        ({"policy": "noise"}, "'model.embed_tokens.weight' has other values"),
    ],
)
def test_a_checkpoint_of_other_adapters_or_another_base_is_refused(
    learned, switch_policy, tmp_path, capfd, change, message
):
    folder = shutil.copytree(learned.run_dir, tmp_path / "run")
    data = yaml.safe_load((folder / "config.yaml").read_text())
    if "policy" in change:
        data["policy"]["path"] = str(noisy(switch_policy, tmp_path / "other"))
    data["trainer"] |= change.get("trainer", {})
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    assert run(["train", "--resume", str(folder), "--steps", "7"]) == 2
    assert re.search(message, " ".join(capfd.readouterr().err.split()))


def noisy(policy: Path, place: Path) -> Path:
    """A policy of the same shape with other weights."""
    shutil.copytree(policy, place)
    model = AutoModelForCausalLM.from_pretrained(place)
    for weight in model.parameters():
        weight.data.add_(0.01)
    model.save_pretrained(place)
    return place
