from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentgym_rft.errors import CheckpointError
from agentgym_rft.sections import TrainerSection
from agentgym_rft.sft_sections import ModelSection
from agentgym_rft.store.checkpoint import load_checkpoint, restore, save_checkpoint
from agentgym_rft.trainers.optimizer import make_optimizer
from agentgym_rft.trainers.scratch import build_model, train_tokenizer

STATE = {"sampler": {"cursor": 17, "random": {"state": 2**100}}, "num_tokens": 3}
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_layers": 2, "num_heads": 2, "head_dim": 8}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["go to desk 1", "take mug 2"], 300)


def make(seed: int, **sizes: int):
    """A model and its optimizer."""
    model = build_model(ModelSection(**{**SIZES, **sizes}), 300, seed)
    return model, make_optimizer(model, TrainerSection(learning_rate=1e-2))


def train(model, optimizer, steps: int) -> None:
    """Steps on random tokens from torch's global stream."""
    for _ in range(steps):
        ids = torch.randint(0, 300, (2, 8))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def same(model, other) -> bool:
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def run(folder, tokenizer):
    """Four steps with checkpoints at 2 and 4; the model and optimizer that go on from there."""
    model, optimizer = make(0)
    torch.manual_seed(1)
    for step in (2, 4):
        train(model, optimizer, 2)
        save_checkpoint(folder, step, model, tokenizer, optimizer, {**STATE, "step": step}, keep=2)
    return model, optimizer


@pytest.fixture(scope="module")
def original(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("original")
    return folder, *run(folder, tokenizer)


@pytest.fixture
def saved(original, tmp_path):
    """A copy of the folder of `run`, to be damaged, and its model and optimizer, not to be changed."""
    return shutil.copytree(original[0], tmp_path / "checkpoints"), *original[1:]


def test_training_goes_on_bit_for_bit_after_a_round_trip(tmp_path, tokenizer):
    model, optimizer = run(tmp_path, tokenizer)
    train(model, optimizer, 3)
    resumed, resumed_optimizer = make(99)
    torch.manual_seed(1234)
    restore(load_checkpoint(tmp_path), resumed, resumed_optimizer)
    train(resumed, resumed_optimizer, 3)
    assert same(resumed, model)
    for mine, theirs in zip(optimizer.state.values(), resumed_optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_state_comes_back_as_it_was_with_integers_of_any_size(saved):
    checkpoint = load_checkpoint(saved[0])
    assert checkpoint.step == 4
    assert checkpoint.state == {**STATE, "step": 4}


def test_the_model_folder_is_a_policy_of_its_own(saved, tokenizer):
    folder, model, _ = saved
    place = load_checkpoint(folder).model_dir
    assert same(AutoModelForCausalLM.from_pretrained(place), model)
    text = "take mug 2"
    assert AutoTokenizer.from_pretrained(place)(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert list(place.glob("*.safetensors"))


def test_only_the_newest_are_kept(saved, tokenizer):
    folder, model, optimizer = saved
    save_checkpoint(folder, 6, model, tokenizer, optimizer, {}, keep=2)
    assert sorted(path.name for path in folder.iterdir()) == ["step-000004", "step-000006"]


def test_a_step_saved_again_replaces_the_first(saved, tokenizer):
    folder, model, optimizer = saved
    save_checkpoint(folder, 4, model, tokenizer, optimizer, {"again": True}, keep=2)
    assert load_checkpoint(folder).state == {"again": True}
    assert sorted(path.name for path in folder.iterdir()) == ["step-000002", "step-000004"]


def test_a_save_that_was_killed_is_ignored_and_cleaned_up(saved, tokenizer):
    folder, model, optimizer = saved
    draft = folder / ".draft-step-000006"
    shutil.copytree(folder / "step-000004", draft)
    (draft / "manifest.json").unlink()
    assert load_checkpoint(folder).step == 4
    save_checkpoint(folder, 6, model, tokenizer, optimizer, {}, keep=1)
    assert [path.name for path in folder.iterdir()] == ["step-000006"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "model/model.safetensors": (flip, "model/model.safetensors has changed"),
    "trainer.pt": (truncate, "trainer.pt has changed"),
    "state.json": (lambda path: path.unlink(), "state.json is missing"),
    "manifest.json": (truncate, "manifest.json is not a manifest"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_with_a_warning_that_names_it(saved, name, caplog):
    folder, damage, message = saved[0], *DAMAGE[name]
    damage(folder / "step-000004" / name)
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(folder).step == 2
    assert "step-000004" in caplog.text
    assert message in caplog.text
    damage(folder / "step-000002" / name)
    with pytest.raises(CheckpointError, match=f"damaged.*step-000004: {message}.*step-000002: {message}"):
        load_checkpoint(folder)


def test_a_checkpoint_of_a_later_format_is_refused(saved):
    for place in saved[0].iterdir():
        manifest = json.loads((place / "manifest.json").read_text())
        (place / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(CheckpointError, match="its format is 99, expected 2"):
        load_checkpoint(saved[0])


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match="There is no checkpoint in"):
            load_checkpoint(folder)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 32}, r"is \(\d+, 16\) there and \(\d+, 32\) here"),
        ({"num_layers": 3}, "it lacks 'model.layers.2"),
        ({"num_layers": 1}, "it has 'model.layers.1"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(saved, sizes, message):
    model, optimizer = make(3, **sizes)
    untouched, _ = make(3, **sizes)
    with pytest.raises(CheckpointError, match=f"of another model: .*{message}"):
        restore(load_checkpoint(saved[0]), model, optimizer)
    assert same(model, untouched)


def test_a_checkpoint_of_another_optimizer_is_refused(saved):
    model, _ = make(3)
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(CheckpointError, match="of another optimizer"):
        restore(load_checkpoint(saved[0]), model, optimizer)
