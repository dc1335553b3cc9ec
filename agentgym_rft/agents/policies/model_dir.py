"""Refuses a model directory that cannot be used, by its files and its config.json, in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from agentgym_rft.errors import DataError
from agentgym_rft.json_text import parse_json

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_INDICES = {"model.safetensors": "model.safetensors.index.json", "pytorch_model.bin": "pytorch_model.bin.index.json"}
_LFS = b"version https://git-lfs"
_HUB_NAME = re.compile(r"(https://huggingface\.co/)?(?!runs/)(?P<name>[\w-]+/[\w.-]+)")
_OTHER_HEAD = re.compile(r"For(MaskedLM|PreTraining|QuestionAnswering|MultipleChoice|\w*(Classification|Regression))$")


def check_files(folder: Path) -> None:
    """Raise `DataError` unless the directory has the files of a model and its tokenizer, and a config.json that is
    read without code of its own.
    """
    if not folder.is_dir():
        raise DataError(_no_directory(folder))
    if not (folder / "config.json").is_file():
        raise DataError(_no_config(folder))
    _check_config_file(folder)
    if problem := _missing_weights(folder):
        raise DataError(problem)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise DataError(f"{folder} has no tokenizer (tokenizer.json). Save it there with `tokenizer.save_pretrained`.")
    for path in folder.iterdir():
        if path.is_file() and _start_of(path, len(_LFS)) == _LFS:
            raise DataError(
                f"{path} is a pointer of Git LFS, not the file itself. Run `git lfs pull` there, or download the model "
                "with `hf download`."
            )


def check_kind(folder: Path, config: Any) -> None:
    """Raise `DataError` unless the model of this configuration, as transformers read it, is a causal language model."""
    heads = list(config.architectures or ())
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and config.to_dict().get("is_decoder") is False
    is_other = any(_OTHER_HEAD.search(name) for name in heads)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or is_encoder or config.is_encoder_decoder or is_other:
        head = f" ({', '.join(heads)})" if heads else ""
        raise DataError(
            f"{folder} is a model of type '{config.model_type}'{head}, expected a causal language model: one that "
            "reads text from left to right and gives the next token."
        )


def _no_directory(folder: Path) -> str:
    if folder.suffix == ".gguf" and folder.is_file():
        return _is_gguf(folder)
    problem = "is a file" if folder.exists() else "does not exist"
    hub = _HUB_NAME.fullmatch(str(folder).replace("https:/hug", "https://hug"))
    fetch = ""
    if hub and not folder.parent.exists():
        fetch = f". Fetch it with `hf download {hub['name']} --local-dir DIR`, and give DIR"
    return (
        f"Policy directory {folder} {problem}. Expected 'seed', 'seed:NAME', or a directory in Hugging Face format; "
        f"models are not downloaded{fetch}."
    )


def _no_config(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return _is_adapter(folder)
    if found := sorted(folder.glob("*.gguf")):
        return _is_gguf(found[0])
    inside = sorted(path.parent for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/config.json"))
    meant = f" Did you mean {inside[0]}?" if inside else ""
    return f"{folder} has no config.json; it is not a model in Hugging Face format.{meant}"


def _is_gguf(path: Path) -> str:
    return (
        f"{path} is a model in GGUF format, expected a directory in Hugging Face format. Convert it with "
        f"`agentgym import-model {path} --out DIR`, and give DIR."
    )


def _is_adapter(folder: Path) -> str:
    merged = folder.parent / "model"
    if (merged / "config.json").is_file():
        advice = f"Give {merged}, where it is merged."
    else:
        advice = "Merge it into its base model with peft (`merge_and_unload`, then `save_pretrained`), and give that."
    return f"{folder} is an adapter (adapter_config.json), not a whole model. {advice}"


def _check_config_file(folder: Path) -> None:
    path = folder / "config.json"
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise DataError(f"{path} is a JSON {type(config).__name__}, expected an object.")
    for key in ("dtype", "torch_dtype"):
        word = config.get(key)
        if isinstance(word, str) and not isinstance(getattr(torch, word, None), torch.dtype):
            raise DataError(f"{path} has {key} '{word}', expected float32, bfloat16 or float16.")
    heads = config.get("architectures") or []
    if not isinstance(heads, list) or not all(isinstance(head, str) for head in heads):
        raise DataError(f"{path} has the architectures {heads!r}, expected a list of names.")
    if config.get("auto_map") and config.get("model_type") not in CONFIG_MAPPING:
        raise DataError(
            f"The model of {folder} (type '{config.get('model_type')}') needs Python code from its own directory, "
            "which is not run. Take a model that transformers has the code of."
        )


def _missing_weights(folder: Path) -> str | None:
    for whole, index in _INDICES.items():
        if (folder / whole).is_file():
            return None
        if (folder / index).is_file():
            return _missing_shards(folder, index)
    if any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        return None
    found = sorted(folder.glob("*.gguf"))
    return _is_gguf(found[0]) if found else f"{folder} has no weights (model.safetensors)."


def _missing_shards(folder: Path, index: str) -> str | None:
    try:
        files = sorted(set(parse_json((folder / index).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{folder / index} cannot be read: {type(error).__name__}: {error}."
    lost = [name for name in files if not (folder / name).is_file()]
    if not lost:
        return None
    return (
        f"{folder} lacks {len(lost)} of the {len(files)} files of weights that its {index} names: "
        f"{', '.join(lost[:3])}. Copy or download them again."
    )


def _start_of(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
