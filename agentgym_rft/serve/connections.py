"""Connections that end in time, so that clients which send or read slowly, or nothing at all, cannot hold them all."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_FILES_LEFT = 128  # for the store, checkpoints and the like
_FEWEST = 64


class TimedProtocol(H11Protocol):
    """HTTP whose clients have `timeout_keep_alive` seconds to send a whole request, and as long to take the answer.

    uvicorn has a time limit only for connections on which nothing comes after an answer. Here the time runs whenever it
    is not the application that works, and bytes that trickle in do not stop it. Where there are too many connections,
    the one whose time ends first makes room.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            waiting = [c for c in self.connections if isinstance(c, TimedProtocol) and c.deadline is not None]
            min(waiting, key=lambda connection: connection.deadline.when()).end()
