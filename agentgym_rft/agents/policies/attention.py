"""An attention of ours in a transformers model, for some passes only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attention_of(model: Any, name: str) -> Iterator[None]:
    """The model takes the registered attention `name` inside, and stays as it was for whoever else uses it."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
