"""Switches a transformers model to one of our attention functions for a few forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attention_of(model: Any, name: str) -> Iterator[None]:
    """Use the registered attention `name` while the block runs; before and after it the model keeps its own."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
