"""Reads and writes a policy as a directory in Hugging Face format, local files only."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from agentgym_rft.agents.policies.model_dir import WEIGHTS, check_files, check_kind
from agentgym_rft.agents.template_shape import GENERATION_STOP_IDS
from agentgym_rft.errors import DataError
from agentgym_rft.json_text import parse_json

_MOST_WEIGHTS = 8  # in a byte of their files; the most compressed ones have 5
UNREADABLE = (  # what transformers raises for files that it cannot make a model or a tokenizer of
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError),
    *(AssertionError, ArithmeticError, MemoryError),
    *(SafetensorError, StrictDataclassError),
)


def load_model(
    path: str | Path, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> tuple[Any, Any]:
    """Return the causal LM, in evaluation mode, and the tokenizer of a directory.

    Args:
        device: by default the first CUDA device, or the CPU of a machine without one.
        dtype: by default bfloat16 on CUDA and float32 elsewhere.
    Raises:
        DataError: a file is missing or damaged, or the weights or the tokenizer do not fit the model.
    """
    folder = Path(path)
    check_files(folder)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = dtype or (torch.bfloat16 if target.type == "cuda" else torch.float32)
    with quiet_transformers():
        config = _read_config(folder)
        check_kind(folder, config)
        tokenizer = _read_tokenizer(folder)
        model = _read_weights(folder, config, kind)
    size = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > size:
        raise DataError(
            f"The tokenizer of {folder} has {len(tokenizer)} tokens, but the model has embeddings for {size}. "
            "Take the tokenizer that the model was trained with, or resize the model's embeddings and train them."
        )
    return model.to(target).eval(), tokenizer


def load_tokenizer(path: str | Path) -> Any:
    """Return the tokenizer of a model directory. Raises `DataError` if it cannot be read."""
    with quiet_transformers():
        return _read_tokenizer(Path(path))


def save_model(
    path: str | Path, model: Any, tokenizer: Any, *, check: Callable[[Path], None] = lambda written: None
) -> None:
    """Write model and tokenizer to `path`, so that the directory is there completely or not at all.

    An older policy at `path` is replaced; between its removal and the new name there is a moment without either.

    Args:
        check: called with what was written, before it gets the name `path`; what it raises leaves `path` as it was.
    Raises:
        DataError: `path` is something else than a policy directory, or cannot be written.
    """
    folder = Path(path)
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / "config.json").is_file())):
        raise DataError(f"{folder} exists and is not a policy directory; it is left as it is. Choose another path.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise DataError(f"Cannot write a policy to {folder}: {error}.") from error
    try:
        with quiet_transformers():
            model.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
        check(staging)
        staging.chmod(0o755)  # mkdtemp makes it private
        _replace(folder, staging)
    except (OSError, SafetensorError) as error:
        raise DataError(f"Cannot write a policy to {folder}: {error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from showing progress bars and reports meanwhile: what matters in them is raised here as an
    error.
    """
    had_bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _replace(folder: Path, staging: Path) -> None:
    """Give `staging` the name `folder`, moving an older directory aside first."""
    old = staging.with_name(staging.name + ".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(staging, folder)
    shutil.rmtree(old, ignore_errors=True)


def _read_tokenizer(folder: Path) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises this very class for a file that it does not understand
        raise DataError(f"The tokenizer of {folder} cannot be read: {first_line(error)}") from error
    setattr(tokenizer, GENERATION_STOP_IDS, _generation_stop_ids(folder, len(tokenizer)))
    return tokenizer


def _generation_stop_ids(folder: Path, num_tokens: int) -> tuple[int, ...]:
    """Return the ids that end a reply by the model's generation configuration; none where it names none.

    Ids beyond the tokenizer's are left out: no reply can end with them.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return ()
    try:
        found = parse_json(path.read_bytes()).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(each) is int and each >= 0 for each in ids):
        raise DataError(f"{path} has the eos_token_id {found!r}, expected token ids.")
    return tuple(each for each in ids if each < num_tokens)


def _read_config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except UNREADABLE as error:
        raise _unreadable(folder, first_line(error)) from error


def _read_weights(folder: Path, config: Any, dtype: torch.dtype) -> Any:
    _check_size(folder, config)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            dtype=dtype,
            ignore_mismatched_sizes=True,  # refused below, with the name of the tensor
            output_loading_info=True,
        )
    except UnpicklingError as error:
        problem = "its pytorch_model.bin is damaged, or holds more than weights. Take it in safetensors format."
        raise _unreadable(folder, problem) from error
    except ImportError as error:
        is_quantised = bool(config.to_dict().get("quantization_config"))
        advice = " Or take the model without quantisation." if is_quantised else ""
        raise _unreadable(folder, first_line(error) + advice) from error
    except UNREADABLE as error:
        raise _unreadable(folder, first_line(error)) from error
    check_weights(folder, report)
    return model


def _check_size(folder: Path, config: Any) -> None:
    """Raise `DataError` for a configuration that asks for many more weights, and memory, than the files can hold."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except UNREADABLE:  # reading it says why
        return
    asked = sum(weight.numel() for weight in model.parameters())
    stored = sum(path.stat().st_size for pattern in WEIGHTS for path in folder.glob(pattern))
    if asked > _MOST_WEIGHTS * max(stored, 2**20):
        raise _unreadable(
            folder, f"its configuration asks for {asked:,} weights, but their files have {stored:,} bytes."
        )


def check_weights(source: Path, report: Mapping[str, Any]) -> None:
    """Raise `DataError` if transformers' loading report names weights of another shape, or missing ones."""
    for name, stored, expected in sorted(report["mismatched_keys"]):
        problem = f"'{name}' is {tuple(stored)} in its weights and {tuple(expected)} by its configuration."
        raise _unreadable(source, problem)
    lost = sorted(report["missing_keys"])
    if lost:
        raise DataError(f"The weights of {source} lack {', '.join(lost[:3])} ({len(lost)} tensors).")


def _unreadable(source: Path, problem: str) -> DataError:
    return DataError(f"The model of {source} cannot be read: {problem}")


def first_line(error: Exception) -> str:
    """Return the first line of another library's message, as a sentence. Where it only announces the next one, both."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    return f"{type(error).__name__}: {text.rstrip('.')}."
