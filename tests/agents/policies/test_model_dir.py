"""Model directories are refused for what they are, and only for that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import (
    BertConfig,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen2_5_VLConfig,
    Qwen3MoeConfig,
    T5Config,
    ViTConfig,
    XLMRobertaConfig,
)

from agentgym_rft.agents.policies.loading import save_model
from agentgym_rft.agents.policies.model_dir import check_files, check_kind
from agentgym_rft.errors import DataError
from tests.agents.policies.tiny_lms import make_model, make_tokenizer

HERE = Path("model")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "run" / "policy", make_model(), make_tokenizer())
    return tmp_path / "run" / "policy"


@pytest.mark.parametrize("kind", [GPT2Config, GPTNeoXConfig, LlamaConfig, Gemma3Config, Qwen3MoeConfig])
@pytest.mark.parametrize("heads", [None, [], ["LLaMAForCausalLM"], ["OfSomebodyElse"]])
def test_decoders_are_taken_whatever_name_their_head_has(kind, heads):
    check_kind(HERE, kind(architectures=heads))


@pytest.mark.parametrize("kind", [BertConfig, XLMRobertaConfig, T5Config, ViTConfig, Qwen2_5_VLConfig])
def test_models_of_another_kind_are_refused(kind):
    with pytest.raises(DataError, match=f"model is a model of type '{kind.model_type}', expected a causal language"):
        check_kind(HERE, kind())


def test_an_encoder_that_was_made_a_decoder_is_taken():
    check_kind(HERE, BertConfig(is_decoder=True))


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM"])
def test_a_decoder_with_another_head_is_refused(head):
    with pytest.raises(DataError, match=rf"type 'llama' \(LlamaFor{head}\), expected"):
        check_kind(HERE, LlamaConfig(architectures=[f"LlamaFor{head}"]))


def test_the_adapter_of_a_checkpoint_names_the_merged_model_beside_it(folder: Path):
    adapter = folder.parent / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match=r"is an adapter .* Merge it into its base model with peft"):
        check_files(adapter)
    shutil.copytree(folder, folder.parent / "model")
    with pytest.raises(DataError, match=f"Give {folder.parent / 'model'}, where it is merged"):
        check_files(adapter)


@pytest.mark.parametrize(
    ("name", "is_hub"),
    [
        ("Qwen/Qwen3-0.6B", True),
        ("https://huggingface.co/Qwen/Qwen3-0.6B", True),
        ("runs/none", False),
        ("run/none", False),
        ("./Qwen/Qwen3", True),
        ("a/b/c", False),
        ("/Qwen/Qwen3", False),
        ("none", False),
    ],
)
def test_a_name_that_can_be_one_of_a_hub_is_told_how_to_fetch_it(folder: Path, monkeypatch, name, is_hub):
    monkeypatch.chdir(folder.parent.parent)  # which has a folder `run`
    with pytest.raises(DataError, match=r"does not exist.*models are not downloaded") as raised:
        check_files(Path(name))
    assert ("`hf download Qwen/Qwen3" in str(raised.value)) == is_hub


def test_a_whole_file_of_weights_needs_no_index(folder: Path):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    check_files(folder)


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": [1]}', "{}"])
def test_a_damaged_index_is_refused(folder: Path, index: str):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(DataError, match=r"model\.safetensors\.index\.json cannot be read"):
        check_files(folder)


def test_a_tokenizer_that_is_a_pointer_is_refused_too(folder: Path):
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"tokenizer\.json is a pointer of Git LFS"):
        check_files(folder)


@pytest.mark.parametrize(
    ("word", "is_known"), [("float32", True), (None, True), ("bf16", False), ("torch.half", False)]
)
def test_a_dtype_that_transformers_cannot_read_is_refused(folder: Path, word: str | None, is_known: bool):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": word}))
    if is_known:
        check_files(folder)
    else:
        with pytest.raises(DataError, match=f"has torch_dtype '{word}', expected float32, bfloat16 or float16"):
            check_files(folder)
