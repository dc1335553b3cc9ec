"""Arrays of a search index as files that can be mapped into memory.

A folder holds one `.npy` file per array, and `header.json` with the format version and the size and SHA-256 of each
file. The header is written last, so an incomplete folder is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from agentgym_rft.errors import DataError
from agentgym_rft.json_text import checked_json

FORMAT = 1
_HEADER = "header.json"
_AGAIN = "Build the index again."


class _File(TypedDict):
    bytes: int
    sha256: str


class _Header(TypedDict):
    format: int
    files: dict[str, _File]


_KIND = TypeAdapter(_Header)


def save(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays and their header into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _HEADER).unlink(missing_ok=True)
    files = {}
    for name, values in arrays.items():
        path = folder / f"{name}.npy"
        unfinished = folder / f"{name}.npy.part"
        with unfinished.open("wb") as file:
            np.save(file, values, allow_pickle=False)
        os.replace(unfinished, path)  # a process that has the old file mapped keeps it
        files[name] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    unfinished = folder / f"{_HEADER}.part"
    unfinished.write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
    os.replace(unfinished, folder / _HEADER)


def load(folder: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the named arrays of a folder, mapped read-only. Raises DataError for another version or damaged files."""
    files, arrays = _header(folder), {}
    if set(files) != set(names):
        raise DataError(f"{folder / _HEADER} is no header of a search index: it lists other files. {_AGAIN}")
    for name, expected in files.items():
        path = folder / f"{name}.npy"
        if not path.is_file():
            raise DataError(f"The search index in {folder} lacks the file {path.name}. {_AGAIN}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise DataError(f"{path} of the search index has {size} bytes instead of {expected['bytes']}. {_AGAIN}")
        if _digest(path) != expected["sha256"]:
            raise DataError(f"{path} of the search index is damaged: its SHA-256 is not that of the header. {_AGAIN}")
        arrays[name] = load_array(path)
    return arrays


def load_array(path: Path) -> NDArray[Any]:
    """Return the array in a file, mapped read-only. Raises DataError if it is missing or damaged."""
    try:
        # As a plain array: every slice of a memmap object costs microseconds.
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except Exception as error:  # numpy reads a header as Python: what it raises depends on the damage
        raise DataError(f"'{path}' is missing or damaged; delete its folder, it is made again.") from error
    return array


def _header(folder: Path) -> dict[str, _File]:
    path = folder / _HEADER
    if not path.is_file():
        raise DataError(f"There is no search index in {folder}: {_HEADER} is missing. {_AGAIN}")
    try:
        header = checked_json(_KIND, path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is no header of a search index: {error}. {_AGAIN}") from error
    if header["format"] != FORMAT:
        version = header["format"]
        raise DataError(f"The search index in {folder} has format {version}; this version reads {FORMAT}. {_AGAIN}")
    return header["files"]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
