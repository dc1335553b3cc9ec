"""Gives memory that torch has freed on the CPU back to the operating system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch


def release_memory(device: torch.device) -> None:
    """Give back freed pages of the CPU, where the C library is glibc; it keeps them, between the blocks in use.

    Micro-batches of ever other lengths leave holes of ever other sizes, so that a process would grow with each.
    """
    trim = _malloc_trim() if device.type == "cpu" else None
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """Return glibc's `malloc_trim`; None in another C library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not there; no library that can be opened so
        return None
