"""Checkpoints of a training run: complete or absent, with checksums, and usable as a policy.

    checkpoints/step-000010/
        model/          Hugging Face format with the tokenizer: a valid `--policy`; merged where adapters are trained
        adapter/        the adapters, in peft's format; only where adapters are trained
        trainer/        optimizer state, torch's random state, and weights outside the model (a critic's head), by
                        torch.distributed.checkpoint
        state.json      everything else: sampler cursor, counters
        manifest.json   step, and size and SHA-256 of every other file

A checkpoint is written beside its place, synced to disk and renamed; a killed run leaves at most a hidden folder that
the next save removes. One run at a time writes to a folder; if it has several processes, all must see the folder.
Format 2, of version 0.1, has a file trainer.pt in place of trainer/ and can still be restored.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NotRequired

import torch
import torch.distributed as dist
from pydantic import TypeAdapter, with_config
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import TypedDict

from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.errors import AgentGymError, CheckpointError, DataError, StorageError
from agentgym_rft.json_text import OPEN, checked_json, read_json
from agentgym_rft.store.trainer_state import assign, load_trainer, save_trainer

FORMAT = 3
_SINGLE_FILE_FORMAT = 2  # trainer.pt, which one process reads
_log = logging.getLogger(__name__)


@with_config(OPEN)
class _Manifest(TypedDict):
    format: int
    files: dict[str, Any]


@with_config(OPEN)
class _State(TypedDict):
    policies: NotRequired[list[str]]  # see `run_policies`


_MANIFEST = TypeAdapter(_Manifest)
_STATE: TypeAdapter[Any] = TypeAdapter(_State)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint. `state` is what was passed to `save_checkpoint`, after JSON."""

    path: Path
    step: int
    state: Mapping[str, Any]

    @property
    def model_dir(self) -> Path:
        """Folder of model and tokenizer in Hugging Face format."""
        return self.path / "model"


def save_checkpoint(
    folder: Path,
    step: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
    extra: Mapping[str, Any] = MappingProxyType({}),
    save_adapter: Callable[[Path], None] | None = None,
) -> Path:
    """Write the checkpoint of a step and delete all but the newest `keep`; returns its folder.

    In a run of several processes all of them call it; the first one writes all but the shares of the others.

    Args:
        model: what `model/` is to hold: the policy, with adapters merged.
        state: JSON.
        extra: tensors in mappings. Torch's global random state is saved, too.
        save_adapter: writes the adapters to a folder; an optimizer that trains them needs them to resume.
    Raises:
        StorageError: the disk refuses. Older checkpoints are left as they were.
    """
    place = folder / f"step-{step:06d}"
    draft = folder / f".draft-{place.name}"
    rank = dist.get_rank() if dist.is_initialized() else 0
    with _written(draft, rank):
        if rank == 0:
            _begin(folder, draft)
            save_model(draft / "model", model, tokenizer)
            if save_adapter is not None:
                save_adapter(draft / "adapter")
        if dist.is_initialized():
            dist.barrier()
        save_trainer(draft / "trainer", optimizer, _random_state(rank), extra, rank)
        if rank == 0:
            _finish(folder, draft, place, step, state)
    if rank == 0:
        for _, old in _found(folder)[keep:]:
            shutil.rmtree(old)
    return place


@contextmanager
def _written(draft: Path, rank: int) -> Iterator[None]:
    """Write a draft; if that fails, remove it, so that its disk space is free again."""
    try:
        yield
    except (OSError, DataError, SafetensorError, CheckpointException) as error:
        if rank == 0:
            shutil.rmtree(draft, ignore_errors=True)
        raise StorageError(
            f"Cannot write a checkpoint to '{draft.parent}': {_reason(error)}. The older checkpoints there are "
            "unchanged. Make room and go on with --resume."
        ) from error


def _reason(error: BaseException) -> str:
    """Return the operating system's message, from wherever a library has put it; otherwise the error's own."""
    if isinstance(error, CheckpointException):
        return next((_reason(found) for found, _ in error.failures.values()), "unknown")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return next(iter(text.splitlines()), "unknown").rstrip(".")


def _begin(folder: Path, draft: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*-step-*"):
        shutil.rmtree(leftover)
    draft.mkdir()


def _finish(folder: Path, draft: Path, place: Path, step: int, state: Mapping[str, Any]) -> None:
    (draft / "state.json").write_text(json.dumps(dict(state)), encoding="utf-8")
    manifest = {"format": FORMAT, "step": step, "files": file_sums(draft)}
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in (*draft.rglob("*"), draft):
        _sync(path)
    _replace(draft, place)
    _sync(folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the newest undamaged checkpoint in a folder; damaged newer ones are skipped with a logged warning.

    Raises:
        CheckpointError: there is no checkpoint, none is undamaged, or the newest ones are of another format.
    """
    found = _found(folder)
    if not found:
        raise CheckpointError(f"There is no checkpoint in '{folder}'. Give the run directory of a run that saved one.")
    problems: list[tuple[Path, str]] = []
    for step, path in found:
        problem = _problem(path)
        if problem is None:
            for damaged, why in problems:
                _log.warning("Checkpoint '%s' is damaged and skipped: %s.", damaged, why)
            return Checkpoint(path, step, read_json(path / "state.json", _STATE, "state of a checkpoint"))
        problems.append((path, problem))
    reasons = "; ".join(f"{path.name}: {problem}" for path, problem in problems)
    raise CheckpointError(f"Every checkpoint in '{folder}' is damaged ({reasons}). Restore one from a copy.")


def checkpoint_at(folder: Path, step: int) -> Checkpoint:
    """Return the checkpoint of a step. Raises CheckpointError if it is not there or damaged."""
    path = folder / f"step-{step:06d}"
    problem = _problem(path)
    if problem is not None:
        raise CheckpointError(f"There is no good checkpoint of step {step} in '{folder}': {problem}.")
    return Checkpoint(path, step, read_json(path / "state.json", _STATE, "state of a checkpoint"))


def checkpoint_folders(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, damaged or not, oldest first."""
    return _found(folder)[::-1]


def has_checkpoint(folder: Path) -> bool:
    """Return True if there is a checkpoint in a folder, damaged or not. A save that never finished does not count."""
    return bool(_found(folder))


def restore(checkpoint: Checkpoint, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
    """Put the checkpoint's weights, optimizer state and torch random state into a run's own objects.

    Returns what was saved as `extra`, in whole tensors. In a run of several processes all of them call it; the model
    may be sharded.

    Raises:
        CheckpointError: the checkpoint is of a model of another shape.
    """
    weights = stored_weights(checkpoint, model.dtype)
    own = model.state_dict()
    if difference := weights_difference(weights, own):
        raise CheckpointError(f"Checkpoint '{checkpoint.path}' is of another model: {difference}.")
    for name, tensor in weights.items():
        assign(own[name], tensor)
    return restore_optimizer(checkpoint, optimizer)


def stored_weights(checkpoint: Checkpoint, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
    """Return the weights in a checkpoint's `model/`, by name. Raises CheckpointError if they cannot be loaded."""
    try:
        stored, _ = load_model(checkpoint.model_dir, device="cpu", dtype=dtype)
    except AgentGymError as error:
        raise CheckpointError(f"The model of checkpoint '{checkpoint.path}' cannot be loaded: {error}") from error
    weights: Mapping[str, torch.Tensor] = stored.state_dict()
    return weights


def restore_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
    """Put back what `restore` does but the model's weights."""
    with restored(checkpoint.path, "optimizer"):
        if (checkpoint.path / "trainer.pt").exists():
            return _restore_single_file(checkpoint, optimizer)
        random, extra = load_trainer(checkpoint.path / "trainer", optimizer)
        rank = dist.get_rank() if dist.is_initialized() else 0
        torch.set_rng_state(random.get(f"cpu-{rank}", random["cpu-0"]))
        if torch.cuda.is_available() and f"cuda-{rank}" in random:
            torch.cuda.set_rng_state(random[f"cuda-{rank}"])
    return extra


@contextmanager
def restored(path: Path, what: str) -> Iterator[None]:
    """Raise CheckpointError where `what` a checkpoint holds is of other names, types or shapes than the run needs."""
    try:
        yield
    except AgentGymError:
        raise
    except (Exception, CheckpointException) as error:  # its checksums are right: somebody else wrote it, or a bug did
        raise CheckpointError(f"The {what} in '{path}' cannot be restored: {_reason(error)}.") from error


def _restore_single_file(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
    if dist.is_initialized():
        raise CheckpointError(
            f"Checkpoint '{checkpoint.path}' is of version 0.1, which one process reads. Resume the run without "
            "torchrun first; its next checkpoint is for any number of processes."
        )
    trainer = torch.load(checkpoint.path / "trainer.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(trainer["optimizer"])
    torch.set_rng_state(trainer["random"]["cpu"])
    if torch.cuda.is_available() and len(trainer["random"]["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(trainer["random"]["cuda"])
    extra: Mapping[str, Any] = trainer.get("extra", {})  # absent in the first checkpoints of that version
    return extra


def _random_state(rank: int) -> dict[str, torch.Tensor]:
    state = {f"cpu-{rank}": torch.get_rng_state()}
    if torch.cuda.is_available():
        state[f"cuda-{rank}"] = torch.cuda.get_rng_state()
    return state


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, damaged or not, newest first."""
    paths = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(((int(path.name.removeprefix("step-")), path) for path in paths), reverse=True)


def _problem(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, or None. Raises CheckpointError if its format is another."""
    try:
        manifest = checked_json(_MANIFEST, (path / "manifest.json").read_bytes())
        version, expected = manifest["format"], manifest["files"]
        actual = file_sums(path)
    except FileNotFoundError:
        return "manifest.json is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError:
        return "manifest.json is not a manifest"
    if version not in (FORMAT, _SINGLE_FILE_FORMAT):
        raise CheckpointError(
            f"Checkpoint '{path}' has format {version}, expected {FORMAT}: another version of agentgym_rft wrote it. "
            "Resume with that version; nothing was changed."
        )
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            return f"{name} is missing"
        if name not in expected:
            return f"manifest.json does not name {name}"
        if actual[name] != expected[name]:
            return f"{name} has changed since it was written"
    return None


def file_sums(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file below a folder but its manifest, by relative path."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / "manifest.json":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            sums[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return sums


def _sync(path: Path) -> None:
    """Make sure that a file or a folder's list of names is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(draft: Path, place: Path) -> None:
    """Rename a finished draft into its place; an older checkpoint of the same step makes way."""
    if place.exists():
        old = place.with_name(f".old-{place.name}")
        place.rename(old)
        draft.rename(place)
        shutil.rmtree(old)
    else:
        draft.rename(place)


def weights_difference(stored: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str | None:
    """Return the first weight that only one of two models has, or has in another shape; None if there is none."""
    for name in sorted(stored.keys() | own.keys()):
        if name not in own:
            return f"it has '{name}', this model does not"
        if name not in stored:
            return f"it lacks '{name}'"
        if stored[name].shape != own[name].shape:
            return f"'{name}' is {tuple(stored[name].shape)} there and {tuple(own[name].shape)} here"
    return None
