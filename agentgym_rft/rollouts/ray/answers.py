"""Waiting for what an actor answers."""

from __future__ import annotations

import asyncio
from typing import Any


async def answer_of(reference: Any) -> Any:
    """What Ray's reference comes to. Who stops to wait leaves Ray's own future alone, which does not expect that."""
    return await asyncio.shield(asyncio.wrap_future(reference.future()))
