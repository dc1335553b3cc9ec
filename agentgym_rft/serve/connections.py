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

    uvicorn has a time limit only for a connection on which nothing comes after an answer. Here the time runs whenever
    it is not the application that works, and bytes that trickle in do not stop it. Where there are too many
    connections, the one whose time ends first makes room.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def deadline(self) -> float:
        """The loop's time at which the client must have done its part; infinite while it is not its turn."""
        return float("inf") if self._timer is None else self._timer.when()

    def end(self) -> None:
        """Close the connection at once: what the client has not taken yet is lost."""
        self.connections.discard(self)  # as `connection_lost` does, but before the next one comes
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            timed = (connection for connection in self.connections if isinstance(connection, TimedProtocol))
            min(timed, key=lambda connection: connection.deadline).end()  # at worst this one: nobody else is late

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def _watch(self) -> None:
        """Let the time run unless the application works: it has a whole request, and can write its answer."""
        is_whole = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        is_answered = self.conn.our_state not in (h11.SEND_RESPONSE, h11.SEND_BODY)
        if is_whole and not is_answered and not self.flow.write_paused:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.timeout_keep_alive, self.end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def most_connections(num_conversations: int) -> int:
    """Return how many connections are held at once: four a conversation, unless the process may open fewer files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * num_conversations
    return max(_FEWEST, wanted if files == resource.RLIM_INFINITY else min(wanted, files - _FILES_LEFT))
