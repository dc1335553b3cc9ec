"""Policy directories are read completely or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.errors import DataError
from tests.agents.policies.tiny_lms import VOCAB, make_model, make_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "runs" / "policy", make_model(), make_tokenizer())
    return tmp_path / "runs" / "policy"


def test_a_saved_policy_is_read_back(folder: Path) -> None:
    model, tokenizer = load_model(folder, device="cpu")
    expected = make_model().state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert (len(tokenizer), model.dtype, model.training) == (VOCAB, torch.float32, False)
    assert tokenizer.encode("w3 w7") == [3, 7]


def test_saving_again_replaces_the_policy_and_leaves_nothing_else(folder: Path) -> None:
    save_model(folder, make_model(seed=1), make_tokenizer())
    model, _ = load_model(folder, device="cpu")
    assert torch.equal(model.lm_head.weight, make_model(seed=1).lm_head.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


def test_what_the_check_refuses_leaves_the_older_policy(folder: Path) -> None:
    def refuse(written: Path) -> None:
        changed, _ = load_model(written, device="cpu")
        assert torch.equal(changed.lm_head.weight, make_model(seed=1).lm_head.weight)
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        save_model(folder, make_model(seed=1), make_tokenizer(), check=refuse)
    model, _ = load_model(folder, device="cpu")
    assert torch.equal(model.lm_head.weight, make_model().lm_head.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


def test_saving_never_replaces_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not a policy directory"):
        save_model(tmp_path, make_model(), make_tokenizer())
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_saving_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write"):
        save_model(tmp_path / "file" / "policy", make_model(), make_tokenizer())


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    class Model:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "model.safetensors").write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(DataError, match=r"Cannot write a policy .* No space left on device"):
        save_model(tmp_path / "policy", Model(), make_tokenizer())
    assert not list(tmp_path.iterdir())


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer of .* cannot be read"),
        (lambda f: (f / "config.json").write_text("{}"), "cannot be read"),
        (lambda f: change_config(f, model_type="nonesuch"), "cannot be read"),
        (lambda f: change_config(f, architectures=[3]), "has the architectures .3., expected a list of names"),
        (lambda f: change_config(f, pad_token_id=10**9), "cannot be read"),  # an AssertionError of torch
        (lambda f: (f / "config.json").write_text("[" * 5000), "it nests too many levels"),
        (lambda f: (f / "generation_config.json").write_text("[" * 5000), "it nests too many levels"),
        (cut_weights, "cannot be read"),
        (lambda f: change_config(f, hidden_size=64), "cannot be read"),
        (lambda f: change_config(f, hidden_size=2**16), "asks for .* weights, but their files have .* bytes"),
        (lambda f: change_config(f, num_hidden_layers=4, layer_types=["full_attention"] * 4), "lack model.layers.3"),
    ],
)
def test_a_damaged_directory_is_refused_with_the_reason(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message):
        load_model(folder, device="cpu")


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_model(tmp_path / "nowhere")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "policy", make_model(), make_tokenizer(size=VOCAB + 1))
    with pytest.raises(DataError, match="62 tokens, but the model has embeddings for 61"):
        load_model(tmp_path / "policy", device="cpu")
