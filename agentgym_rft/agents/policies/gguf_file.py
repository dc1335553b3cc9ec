"""Reads a language model from a GGUF file, with its weights unpacked, and writes it as a policy directory."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.agents.policies.loading import (
    UNREADABLE,
    check_weights,
    first_line,
    load_model,
    quiet_transformers,
    save_model,
)
from agentgym_rft.agents.template import REPLY, Template
from agentgym_rft.errors import ConfigError, DataError

NUM_NEW_TOKENS = 16
# Words, numbers, white space, code and other scripts: what tokenizers split differently.
PROBES = (
    "The capital of France is",
    "  Task 12:\n\n\tput 3 hot mugs (of 2024) in cabinet 10, don't drop them!",
    "def f(x):\n    return x ** 2  # Größe, 東京, 🙂",
)
_ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")  # ends of a turn beside the tokenizer's eos


def check_extra() -> None:
    """Raise `ConfigError` if a package that reads GGUF is missing."""
    import transformers

    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Reading a GGUF file needs {' and '.join(missing)}, which this installation lacks: "
            "pip install 'agentgym-rft[gguf]'."
        )
    if "GgufConfig" not in dir(transformers):
        raise ConfigError(
            f"Reading a GGUF file needs transformers 5.24 or later, and {transformers.__version__} is installed: "
            "pip install -U transformers."
        )


def read_header(path: Path) -> dict[str, Any]:
    """Return the metadata of a GGUF file that are no arrays.

    Raises:
        DataError: there is no such file, it is damaged, or it holds something else than a whole language model.
    """
    _check_magic(path)
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        header = {key: field.contents() for key, field in reader.fields.items() if len(field.types) == 1}
    except (*UNREADABLE, OverflowError, MemoryError) as error:
        raise DataError(f"'{path}' is cut off or damaged; copy the file again.") from error
    _check_kind(path, header, num_tensors=len(reader.tensors))
    return header


def read_tokenizer(path: Path, chat_template: str | None = None) -> Any:
    """Return the tokenizer of a GGUF file.

    Args:
        chat_template: in place of the file's own.
    Raises:
        DataError: transformers does not read such a tokenizer, or it has no chat template.
    """
    from transformers import AutoTokenizer

    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        except Exception as error:  # tokenizers raises this very class for pieces that do not fit each other
            raise _unread(path, error) from error
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if not tokenizer.chat_template:
        raise DataError(
            f"'{path}' has no chat template, which agents need: give the one that the model was trained with, "
            "--chat-template FILE.jinja."
        )
    return tokenizer


def read_model(path: Path, header: Mapping[str, Any]) -> Any:
    """Return the causal LM of a GGUF file, in float32 on the CPU and in evaluation mode.

    Args:
        header: what `read_header` returned. Its ends of a turn join the end of sequence in `generation_config`.
    Raises:
        DataError: transformers does not read such a model, or weights are missing.
    """
    from transformers import AutoModelForCausalLM, GgufConfig

    with quiet_transformers(), redirect_stderr(io.StringIO()):  # it shows a bar that no setting of its own switches off
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),  # packed weights can be neither saved nor trained
                trust_remote_code=False,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # refused below, with the name of the tensor
                output_loading_info=True,
            )
        except UNREADABLE as error:
            raise _unread(path, error) from error
    check_weights(path, report)
    eos = model.generation_config.eos_token_id
    ends = dict.fromkeys([*(eos if isinstance(eos, list) else [eos]), *(header.get(key) for key in _ENDS)])
    known = [int(token) for token in ends if token is not None]
    if len(known) > 1:
        model.generation_config.eos_token_id = known
    return model.eval()


def write_policy(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write a policy directory, read it again, and compare both.

    Raises:
        DataError: `folder` cannot be written; or what was read again differs, and then no directory is left.
    """
    save_model(folder, model, tokenizer, check=lambda written: _check_same(written, model, tokenizer))


def greedy(model: Any, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """Return for each probe the token ids and those of the greedy continuation."""
    answers = []
    asked = Template(tokenizer, REPLY, {}, "").prompt([{"role": "user", "content": PROBES[0]}])
    for text in (*PROBES, asked):
        ids = tokenizer.encode(text, add_special_tokens=False)
        with torch.inference_mode():
            row = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=NUM_NEW_TOKENS,
                do_sample=False,
            )
        answers.append((ids, row[0, len(ids) :].tolist()))
    return answers


def check_answers(before: list[tuple[list[int], list[int]]], after: list[tuple[list[int], list[int]]]) -> None:
    """Raise `DataError` if the answers of `greedy` differ."""
    for (ids, tokens), (new_ids, new_tokens) in zip(before, after, strict=True):
        for what, same in (("splits", ids == new_ids), ("continues", tokens == new_tokens)):
            if not same:
                raise DataError(
                    f"The model is not imported: saved and read again, it {what} a text otherwise than the GGUF file "
                    "does. Take the model's directory in Hugging Face format instead."
                )


def _check_same(written: Path, model: Any, tokenizer: Any) -> None:
    with quiet_transformers():
        check_answers(greedy(model, tokenizer), greedy(*load_model(written, device="cpu", dtype=torch.float32)))


def _check_magic(path: Path) -> None:
    if path.is_dir():
        raise DataError(
            f"'{path}' is a directory, expected a GGUF file. A model in Hugging Face format needs no import: name it "
            "with --policy."
        )
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except FileNotFoundError as error:
        raise DataError(f"There is no file '{path}'; models are not downloaded.") from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from error
    if magic != b"GGUF":
        raise DataError(f"'{path}' is no GGUF file: it does not begin with the letters GGUF.")


def _check_kind(path: Path, header: Mapping[str, Any], num_tensors: int) -> None:
    kind = header.get("general.type", "model")
    if kind not in ("model", "vocab"):
        raise DataError(f"'{path}' holds no language model: its general.type is '{kind}', expected 'model'.")
    if header.get("split.count", 1) > 1:
        raise DataError(
            f"'{path}' is one of {header['split.count']} parts of a model: put them together with llama.cpp's "
            "`llama-gguf-split --merge`."
        )
    if not num_tensors:
        raise DataError(f"'{path}' holds no language model: it has no weights.")
    if "tokenizer.ggml.model" not in header:
        raise DataError(f"'{path}' holds no language model: it has no tokenizer.")


def _unread(path: Path, error: Exception) -> DataError:
    problem = textwrap.shorten(first_line(error), 200, placeholder=" ...")
    return DataError(f"transformers reads no language model from '{path}': {problem}")
