"""Files that are written in one piece, and files that grow."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

_LONGEST_NAME = 150  # of the 255 bytes that file systems allow, since other words stand around it


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
