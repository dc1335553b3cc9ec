"""Messages over a socket between an environment's process and its owner."""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("!Q")
_CHUNK = 65536  # bytes; small enough for malloc's own heap, large enough for most messages


class Channel:
    """Sends and takes messages of any length; each is preceded by its length in 8 bytes.

    On a blocking socket `flush` and `take` wait. On a non-blocking one they do what is possible at once.
    """

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self._received = bytearray()
        self._unsent = bytearray()
        self.num_unsent = 0  # messages since the last flush

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    @property
    def is_sent(self) -> bool:
        """True if nothing is left to be sent."""
        return not self._unsent

    def put(self, message: bytes) -> None:
        """Queue a message, to be sent by the next `flush`: one system call for many small ones."""
        self._unsent += _LENGTH.pack(len(message)) + message
        self.num_unsent += 1

    def flush(self) -> None:
        """Send what is left. Raises `ConnectionError` if nobody listens."""
        self.num_unsent = 0
        while self._unsent:
            try:
                num_sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            del self._unsent[:num_sent]

    def take(self) -> list[bytes]:
        """Return messages that are complete after one more read. Raises `EOFError` or `ConnectionError` at the end."""
        try:
            chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return []
        if not chunk:
            raise EOFError
        self._received += chunk
        messages, start = [], 0
        while len(self._received) >= start + _LENGTH.size:
            begin = start + _LENGTH.size
            (length,) = _LENGTH.unpack_from(self._received, start)
            if len(self._received) < begin + length:
                break
            start = begin + length
            messages.append(bytes(self._received[begin:start]))
        del self._received[:start]
        return messages
