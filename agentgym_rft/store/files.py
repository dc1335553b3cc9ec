"""Files that are written in one piece, files that grow, and locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote
from weakref import WeakSet

_LONGEST_NAME = 150  # of the 255 bytes that file systems allow, since other words stand around it

_LOCKED: WeakSet[BinaryIO] = WeakSet()  # by this process


def file_name(text: str) -> str:
    """Return a name from outside as the name of one file or folder: `valid/easy` as `valid%2Feasy`.

    Letters, digits and `_.-~` stay as they are. A name that no file system takes is cut, and ends with its hash.
    """
    quoted = quote(text, safe="", errors="backslashreplace")
    if not quoted.strip("."):  # `..` is another folder
        quoted = quoted.replace(".", "%2E") or "%"
    if len(quoted) <= _LONGEST_NAME:
        return quoted
    return f"{quoted[:_LONGEST_NAME]}%{hashlib.sha256(quoted.encode()).hexdigest()[:16]}"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, a crash or another writer sees its old content or a new one, never a part.

    What cannot be written leaves nothing behind. Raises OSError.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:  # a new file, so no link that somebody put there is followed
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to read and to add to, made if it is missing. Raises OSError, for a link in its place, too.

    A folder that was given may have a link there to any file of its user, which would grow or be cut.
    """
    return os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644), "a+b")


def lock(file: BinaryIO) -> None:
    """Lock a file until it is closed, or the process ends. Raises BlockingIOError if it is locked already.

    A fork of this process, which an environment may make and leave behind, keeps no lock.
    """
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _LOCKED.add(file)


def _keep_no_locks() -> None:
    """Put the null device in the place of locked files. Closed, they would leave their numbers to other files."""
    null = os.open(os.devnull, os.O_RDWR)
    for file in _LOCKED:
        if not file.closed:
            os.dup2(null, file.fileno(), inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_keep_no_locks)
