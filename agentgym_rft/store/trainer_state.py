"""Saves optimizer state and other tensors of a trainer by torch.distributed.checkpoint.

The number of processes may differ between saving and loading.

    trainer/
        *.distcp, .metadata   each process's share of the tensors, by name
        groups.json           settings of the optimizer's parameter groups, with the names of their weights

Tensors are stored by the weights' names, so an optimizer that is not sharded can load what a sharded one saved. Torch's
description of them is a pickle, see `tensor_reader.py`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader as loader
from torch.distributed.checkpoint import state_dict_saver as saver
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor, distribute_tensor

from agentgym_rft.store.tensor_reader import TensorReader

_GROUPS = "groups.json"


def save_trainer(
    folder: Path, optimizer: torch.optim.Optimizer, random: Mapping[str, Tensor], extra: Mapping[str, Any], rank: int
) -> None:
    """Write the state; every process calls it, with the same names where it is sharded.

    Raises:
        TypeError: `extra` holds something else than tensors in mappings.
    """
    tensors = dict(_optimizer_tensors(optimizer))
    tensors |= {f"random/{name}": tensor for name, tensor in random.items()}
    tensors |= dict(_flat("extra", extra))
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _GROUPS).write_text(json.dumps(_groups(optimizer)), encoding="utf-8")
    with _quiet():
        saver.save(tensors, checkpoint_id=folder, no_dist=not dist.is_initialized())


def load_trainer(folder: Path, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Put the optimizer's state back; returns the random states and the rest, as they were saved.

    Every process calls it.

    Raises:
        ValueError: the state is of an optimizer of other weights, or its description holds something else.
    """
    groups = json.loads((folder / _GROUPS).read_text(encoding="utf-8"))
    if difference := _difference(groups, _groups(optimizer)):
        raise ValueError(difference)
    reader = TensorReader(folder)
    stored = reader.read_metadata().state_dict_metadata
    _check_size(folder, stored.values())
    weights = dict(_named_weights(optimizer))
    tensors: dict[str, Any] = {}
    for key, kind in stored.items():
        if isinstance(kind, TensorStorageMetadata):
            weight = weights.get(key.split("/")[1]) if key.startswith("optimizer/") else None
            tensors[key] = _empty(kind, weight)
    with _quiet():
        loader.load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())
    _put_back(optimizer, groups, tensors)
    random = {key.removeprefix("random/"): tensor for key, tensor in tensors.items() if key.startswith("random/")}
    return random, _nested({key: tensor for key, tensor in tensors.items() if key.startswith("extra/")}).get(
        "extra", {}
    )


def assign(own: Tensor, full: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    if isinstance(own, DTensor):
        full = distribute_tensor(full.to(own.device), own.device_mesh, own.placements, src_data_rank=None)
    with torch.no_grad():
        own.copy_(full)


@contextmanager
def _quiet() -> Iterator[None]:
    """Return silence torch's warning about a run of one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _named_weights(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Yield the optimizer's weights by name; by their number where it was given none."""
    number = 0
    for group in optimizer.param_groups:
        names = group.get("param_names") or [str(number + i) for i in range(len(group["params"]))]
        number += len(group["params"])
        yield from zip(names, group["params"], strict=True)


def _groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    names = [name for name, _ in _named_weights(optimizer)]
    groups = []
    for group in optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        groups.append({"settings": settings, "weights": names[: len(group["params"])]})
        names = names[len(group["params"]) :]
    return groups


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, weight in _named_weights(optimizer):
        for key, value in optimizer.state.get(weight, {}).items():
            yield f"optimizer/{name}/{key}", value


def _put_back(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]], tensors: Mapping[str, Tensor]) -> None:
    """Restore the optimizer's settings with their types: JSON has no tuples."""
    for own, stored in zip(optimizer.param_groups, groups, strict=True):
        own.update({key: tuple(v) if isinstance(v, list) else v for key, v in stored["settings"].items()})
    weights = dict(_named_weights(optimizer))
    fused = {name for group in groups if group["settings"].get("fused") for name in group["weights"]}
    optimizer.state.clear()
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, name, slot = key.split("/")
            weight = weights[name]
            is_counter = tensor.shape != weight.shape
            optimizer.state[weight][slot] = tensor.to(weight.device) if is_counter and name in fused else tensor


def _empty(kind: TensorStorageMetadata, weight: Tensor | None) -> Tensor:
    """Return an empty tensor for a stored one: sharded like its weight, or whole and on the CPU if it belongs to no
    weight.
    """
    if weight is not None and kind.size == weight.shape:
        return torch.empty_like(weight, dtype=kind.properties.dtype, requires_grad=False)
    return torch.empty(kind.size, dtype=kind.properties.dtype)


def _check_size(folder: Path, stored: Iterable[Any]) -> None:
    """Raise ValueError if the description asks for more memory than the files beside it can fill."""
    kinds = [kind for kind in stored if isinstance(kind, TensorStorageMetadata)]
    asked = sum(abs(kind.size.numel()) * kind.properties.dtype.itemsize for kind in kinds)
    there = sum(path.stat().st_size for path in folder.glob("*.distcp"))
    if asked > there:
        raise ValueError(f"its tensors have {asked:,} bytes, but their files {there:,}")


def _difference(stored: list[dict[str, Any]], own: list[dict[str, Any]]) -> str | None:
    if len(stored) != len(own):
        return f"it has {len(stored)} groups of weights, this one has {len(own)}"
    for there, here in zip(stored, own, strict=True):
        if there["weights"] != here["weights"]:
            names = sorted(set(there["weights"]) ^ set(here["weights"]))
            return f"only one of the two trains {names[0]}" if names else "it trains its weights in another order"
    return None


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{prefix}/{key}", part)
    else:
        raise TypeError(f"'{prefix}' is a {type(value).__name__}, expected tensors in mappings.")


def _nested(flat: Mapping[str, Tensor]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, tensor in flat.items():
        *path, name = key.split("/")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[name] = tensor
    return nested
