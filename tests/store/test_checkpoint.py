from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import resource
import shutil
import subprocess
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentgym_rft.config.run import TrainerSection
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.errors import CheckpointError, DataError, StorageError
from agentgym_rft.store.checkpoint import load_checkpoint, restore, restored, save_checkpoint
from agentgym_rft.trainers.learner.optimizer import make_optimizer
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer

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
    "trainer/__0_0.distcp": (truncate, "trainer/__0_0.distcp has changed"),
    "state.json": (lambda path: path.unlink(), "state.json is missing"),
    "manifest.json": (truncate, "manifest.json is not a manifest"),
}


def test_a_manifest_that_names_no_files_vouches_for_none(saved):
    path = saved[0] / "step-000004" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": {}}))
    assert load_checkpoint(saved[0]).step == 2


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
    """Not skipped as if it were damaged: the run would go on from an older one and overwrite it."""
    path = saved[0] / "step-000004" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="step-000004' has format 99, expected 3: another version"):
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
    with pytest.raises(CheckpointError, match="cannot be restored: it has 2 groups"):
        restore(load_checkpoint(saved[0]), model, optimizer)


def sign(place, name, content):
    """Put a file into a checkpoint, and its checksum into the manifest."""
    (place / name).write_bytes(content)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (place / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trainer/groups.json", b"[3]"),
        ("trainer/groups.json", b"[" * 5000),
        ("trainer/.metadata", b"\x80\x04."),
        ("trainer/__0_0.distcp", b"nothing"),  # torch raises no Exception for it
    ],
)
def test_what_an_optimizer_cannot_be_restored_from_is_refused_whoever_signed_it(saved, name, content):
    sign(saved[0] / "step-000004", name, content)
    with pytest.raises(CheckpointError, match=r"^The optimizer in '.*step-000004' cannot be restored: "):
        restore(load_checkpoint(saved[0]), *make(0))


def test_a_description_of_tensors_larger_than_their_files_is_refused_before_there_is_memory_for_them(saved):
    place = saved[0] / "step-000004"
    for path in (place / "trainer").glob("*.distcp"):
        sign(place, f"trainer/{path.name}", path.read_bytes()[:100])
    with pytest.raises(
        CheckpointError, match=r"cannot be restored: its tensors have [\d,]+ bytes, but their files 100\."
    ):
        restore(load_checkpoint(saved[0]), *make(0))


@pytest.mark.parametrize("content", [b"[]", b'{"policies": "a"}', b"[" * 5000])
def test_a_state_of_other_types_is_refused_whoever_signed_it(saved, content):
    sign(saved[0] / "step-000004", "state.json", content)
    with pytest.raises(DataError, match=r"step-000004/state\.json' is no state of a checkpoint"):
        load_checkpoint(saved[0])


@pytest.mark.parametrize("content", ["[]", '{"format": "3", "files": {}}', '{"format": 3, "files": []}', "[" * 5000])
def test_a_manifest_of_other_types_vouches_for_nothing(saved, content):
    (saved[0] / "step-000004" / "manifest.json").write_text(content)
    assert load_checkpoint(saved[0]).step == 2


def test_what_is_restored_raises_one_kind_of_error_and_leaves_our_own(tmp_path):
    sentence = rf"^The state in '{tmp_path}' cannot be restored: KeyError: 'cursor'\.$"
    with pytest.raises(CheckpointError, match=sentence), restored(tmp_path, "state"):
        {}["cursor"]
    with pytest.raises(DataError, match=r"^mine$"), restored(tmp_path, "state"):
        raise DataError("mine")


def test_a_description_of_tensors_that_holds_something_else_is_refused_whoever_signed_it(saved, tokenizer):
    place = saved[0] / "step-000004"
    sign(place, "trainer/.metadata", pickle.dumps(Counter("ab")))
    with pytest.raises(CheckpointError, match=r"step-000004' cannot be restored: .*it names collections\.Counter\."):
        restore(load_checkpoint(saved[0]), *make(0))


def test_a_checkpoint_of_version_0_1_goes_on_bit_for_bit(tmp_path, tokenizer):
    model, optimizer = make(0)
    torch.manual_seed(1)
    train(model, optimizer, 2)
    place = save_checkpoint(tmp_path, 2, model, tokenizer, optimizer, STATE, keep=2)
    as_version_0_1(place, optimizer)
    train(model, optimizer, 2)
    resumed, resumed_optimizer = make(99)
    checkpoint = load_checkpoint(tmp_path)
    assert restore(checkpoint, resumed, resumed_optimizer) == {}
    train(resumed, resumed_optimizer, 2)
    assert same(resumed, model)
    save_checkpoint(tmp_path, 4, resumed, tokenizer, resumed_optimizer, STATE, keep=2)
    assert load_checkpoint(tmp_path).step == 4


def as_version_0_1(place, optimizer):
    """Make a checkpoint what version 0.1 wrote: a pickle in place of trainer/, and no names of weights in it."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["param_names"]
    shutil.rmtree(place / "trainer")
    random = {"cpu": torch.get_rng_state(), "cuda": []}
    torch.save({"optimizer": state, "random": random}, place / "trainer.pt")
    manifest = json.loads((place / "manifest.json").read_text())
    files = {
        path.relative_to(place).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in place.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    (place / "manifest.json").write_text(json.dumps({**manifest, "format": 2, "files": files}))


def test_extra_tensors_come_back_in_their_mappings(tmp_path, tokenizer):
    model, optimizer = make(0)
    extra = {"head": {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}, "count": torch.tensor(7)}
    save_checkpoint(tmp_path, 1, model, tokenizer, optimizer, {}, keep=1, extra=extra)
    back = restore(load_checkpoint(tmp_path), *make(1))
    assert torch.equal(back["head"]["weight"], extra["head"]["weight"])
    assert torch.equal(back["head"]["bias"], extra["head"]["bias"])
    assert back["count"].item() == 7
    with pytest.raises(TypeError, match="'extra/head' is a int, expected tensors"):
        save_checkpoint(tmp_path, 2, model, tokenizer, optimizer, {}, keep=1, extra={"head": 1})


def test_an_optimizer_that_never_stepped_has_no_state_afterwards_either(tmp_path, tokenizer):
    model, optimizer = make(0)
    save_checkpoint(tmp_path, 1, model, tokenizer, optimizer, {}, keep=1)
    resumed, resumed_optimizer = make(1)
    train(resumed, resumed_optimizer, 1)
    restore(load_checkpoint(tmp_path), resumed, resumed_optimizer)
    assert not resumed_optimizer.state
    assert same(resumed, model)


def test_settings_of_the_optimizer_come_back(tmp_path, tokenizer):
    model, optimizer = make(0)
    optimizer.param_groups[0]["lr"] = 0.5
    save_checkpoint(tmp_path, 1, model, tokenizer, optimizer, {}, keep=1)
    resumed, resumed_optimizer = make(1)
    restore(load_checkpoint(tmp_path), resumed, resumed_optimizer)
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    assert settings == [{k: v for k, v in group.items() if k != "params"} for group in resumed_optimizer.param_groups]


@pytest.mark.parametrize("part", ["model", "trainer"])
def test_a_disk_that_refuses_is_an_error_of_its_own_and_the_draft_is_removed(saved, tokenizer, part):
    folder, model, optimizer = saved
    size = model_size(folder / "step-000004")
    limit = size - 10 if part == "model" else size + 10  # the optimizer's state is larger than the model
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, held[1]))
    try:
        with pytest.raises(StorageError, match=r"File too large.*\. The older checkpoints there are unchanged"):
            save_checkpoint(folder, 6, model, tokenizer, optimizer, {}, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    assert sorted(path.name for path in folder.iterdir()) == ["step-000002", "step-000004"]
    assert load_checkpoint(folder).step == 4


def model_size(place):
    return (place / "model" / "model.safetensors").stat().st_size


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_the_older_checkpoint(original, tmp_path, tokenizer):
    folder, model, optimizer = original
    size = sum(path.stat().st_size for path in (folder / "step-000004").rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(size * 1.5)}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        save_checkpoint(disk / "checkpoints", 4, model, tokenizer, optimizer, {}, keep=2)
        with pytest.raises(StorageError, match=r"No space left on device\. The older checkpoints"):
            save_checkpoint(disk / "checkpoints", 6, model, tokenizer, optimizer, {}, keep=2)
        assert load_checkpoint(disk / "checkpoints").step == 4
        assert [path.name for path in (disk / "checkpoints").iterdir()] == ["step-000004"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
