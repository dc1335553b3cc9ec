"""Reads torch's description of stored tensors without running what a file may ask for.

Torch unpickles that description, and a pickle may call any function. A checkpoint may come from somebody else, so
here only the classes that describe tensors can be made.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

_CHECKPOINT = "torch.distributed.checkpoint"
_DESCRIPTIONS = frozenset(
    {
        ("torch", "Size"),
        ("torch.serialization", "_get_layout"),
        (f"{_CHECKPOINT}.filesystem", "_StorageInfo"),
        *(
            (f"{_CHECKPOINT}.metadata", name)
            for name in (
                "BytesStorageMetadata",
                "ChunkStorageMetadata",
                "Metadata",
                "MetadataIndex",
                "StorageMeta",
                "TensorProperties",
                "TensorStorageMetadata",
                "_MEM_FORMAT_ENCODING",
            )
        ),
        *((module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    }
)


_DAMAGE = (
    *(pickle.UnpicklingError, AttributeError, EOFError, LookupError, TypeError, ValueError),
    *(ImportError, OverflowError, MemoryError),
)


class TensorReader(FileSystemReader):
    """Torch's reader of a folder, whose description of tensors is read with an allow-list of classes."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the description. Raises ValueError if it is something else."""
        path = Path(self.path, ".metadata")
        content = path.read_bytes()
        try:
            _check_places(content)
            metadata = _Unpickler(io.BytesIO(content)).load()
        except _DAMAGE as error:
            raise ValueError(f"{path.name} is no description of tensors: {error}") from error
        if not isinstance(metadata, Metadata):
            raise ValueError(f"{path.name} is no description of tensors: it holds a {type(metadata).__name__}")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def _check_places(content: bytes) -> None:
    """Raise ValueError for a pickle that remembers a value at a place for which Python would take gigabytes."""
    for opcode, place, _ in pickletools.genops(content):
        if opcode.name.endswith("PUT") and int(place or 0) > len(content):
            raise ValueError(f"it remembers {place} values")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and (module, name) not in _DESCRIPTIONS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)
