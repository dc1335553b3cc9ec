"""Checkpoints of a training run: complete or absent, checksummed, and usable as a policy.

    checkpoints/step-000010/
        model/          Hugging Face format with the tokenizer: a valid `--policy`
        trainer.pt      optimizer state, torch's random state, and weights outside the model (a critic's head)
        state.json      everything else: sampler cursor, counters
        manifest.json   step, and size and SHA-256 of every other file

A checkpoint is written beside its place, synced to disk and renamed; a killed run leaves at most a hidden folder that
the next save removes. One process at a time writes to a folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.errors import AgentGymError, CheckpointError

FORMAT = 2
_log = logging.getLogger(__name__)


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
) -> Path:
    """Write the checkpoint of a step and delete all but the newest `keep`; returns its folder.

    `state` must be JSON; `extra` holds tensors in plain containers. Torch's global random state is saved, too. Raises
    DataError or OSError where the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*-step-*"):
        shutil.rmtree(leftover)
    place = folder / f"step-{step:06d}"
    draft = folder / f".draft-{place.name}"
    draft.mkdir()
    save_model(draft / "model", model, tokenizer)
    trainer = {"optimizer": optimizer.state_dict(), "random": _random_state(), "extra": dict(extra)}
    torch.save(trainer, draft / "trainer.pt")
    (draft / "state.json").write_text(json.dumps(dict(state)), encoding="utf-8")
    manifest = {"format": FORMAT, "step": step, "files": _file_sums(draft)}
    (draft / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in (*draft.rglob("*"), draft):
        _sync(path)
    _replace(draft, place)
    _sync(folder)
    for _, old in _found(folder)[keep:]:
        shutil.rmtree(old)
    return place


def load_checkpoint(folder: Path) -> Checkpoint:
    """The newest undamaged checkpoint in a folder; damaged newer ones are skipped with a logged warning.

    Raises:
        CheckpointError: there is no checkpoint, or none is undamaged.
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
            return Checkpoint(path, step, json.loads((path / "state.json").read_text(encoding="utf-8")))
        problems.append((path, problem))
    reasons = "; ".join(f"{path.name}: {problem}" for path, problem in problems)
    raise CheckpointError(f"Every checkpoint in '{folder}' is damaged ({reasons}). Restore one from a copy.")


def has_checkpoint(folder: Path) -> bool:
    """True if there is a checkpoint in a folder, damaged or not. A save that never finished does not count."""
    return bool(_found(folder))


def restore(checkpoint: Checkpoint, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
    """Put the checkpoint's weights, optimizer state and torch random state into a run's own objects.

    Returns what was saved as `extra`.

    Raises:
        CheckpointError: the checkpoint is of a model of another shape.
    """
    try:
        stored, _ = load_model(checkpoint.model_dir, device="cpu", dtype=model.dtype)
    except AgentGymError as error:
        raise CheckpointError(f"The model of checkpoint '{checkpoint.path}' cannot be loaded: {error}") from error
    weights = stored.state_dict()
    if difference := _difference(weights, model.state_dict()):
        raise CheckpointError(f"Checkpoint '{checkpoint.path}' is of another model: {difference}.")
    model.load_state_dict(weights)
    trainer = torch.load(checkpoint.path / "trainer.pt", map_location="cpu", weights_only=True)
    try:
        optimizer.load_state_dict(trainer["optimizer"])
    except ValueError as error:
        raise CheckpointError(f"Checkpoint '{checkpoint.path}' is of another optimizer: {error}") from error
    torch.set_rng_state(trainer["random"]["cpu"])
    if torch.cuda.is_available() and len(trainer["random"]["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(trainer["random"]["cuda"])
    extra: Mapping[str, Any] = trainer.get("extra", {})  # absent in checkpoints of version 0.1
    return extra


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, damaged or not, newest first."""
    paths = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal()]
    return sorted(((int(path.name.removeprefix("step-")), path) for path in paths), reverse=True)


def _problem(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return f"its format is {manifest['format']}, expected {FORMAT}"
        expected, actual = manifest["files"], _file_sums(path)
    except FileNotFoundError:
        return "manifest.json is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError):
        return "manifest.json is not a manifest"
    for name, sums in expected.items():
        if name not in actual:
            return f"{name} is missing"
        if actual[name] != sums:
            return f"{name} has changed since it was written"
    return None


def _file_sums(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a folder but its manifest, by relative path."""
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


def _difference(stored: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str | None:
    """The first weight that only one of two models has, or has in another shape; None if there is none."""
    for name in sorted(stored.keys() | own.keys()):
        if name not in own:
            return f"it has '{name}', this model does not"
        if name not in stored:
            return f"it lacks '{name}'"
        if stored[name].shape != own[name].shape:
            return f"'{name}' is {tuple(stored[name].shape)} there and {tuple(own[name].shape)} here"
    return None
