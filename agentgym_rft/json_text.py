"""Reads JSON that anybody may have written: damage and wrong types are refused in one sentence, before their use."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from reprlib import repr as short_repr
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from agentgym_rft.errors import DataError

T = TypeVar("T")
CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)  # a mapping of known keys
OPEN = ConfigDict(extra="allow", allow_inf_nan=False)  # a mapping of which some keys are known
_DIGITS = 8  # of a checksum, in hexadecimal


def is_text(value: object) -> bool:
    """Return False for what is no text, and for one with half of a surrogate pair, which nothing can show."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _shown(text: str) -> str:
    if not is_text(text):
        raise ValueError("it has half of a surrogate pair")
    return text


Name = Annotated[str, AfterValidator(_shown)]  # a text that is printed, or becomes part of a path


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds. Raises ValueError, also for one that nests too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too many levels") from error


def checked(kind: TypeAdapter[T], value: Any) -> T:
    """Return a value that is of some types. Raises ValueError, which names the first part that is not."""
    try:
        return kind.validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from error


def checked_json(kind: TypeAdapter[T], text: str | bytes) -> T:
    """Return what a JSON text holds, of some types. Raises ValueError, which names the first part of another type."""
    try:
        return kind.validate_json(text, strict=True)  # twice as fast, but refuses half of a surrogate pair
    except ValidationError:
        return checked(kind, parse_json(text))


def read_json(path: Path, kind: TypeAdapter[T], what: str) -> T:
    """Return the content of a JSON file, its keys in their order.
    Raises `DataError`, which says that it is no `what`, for other types.
    """
    try:
        content: T = parse_json(path.read_bytes())
        checked(kind, content)
        return content
    except OSError as error:
        raise DataError(f"Cannot read the {what} '{path}': {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"'{path}' is no {what}: {error}.") from error


def with_checksum(text: str) -> str:
    """Return an ASCII text behind its checksum, from which `without_checksum` takes it."""
    return f"{zlib.crc32(text.encode('ascii')):0{_DIGITS}x} {text}"


def without_checksum(line: str) -> str:
    """Return the text that stands behind its checksum. Raises ValueError if either has changed."""
    text = line[_DIGITS + 1 :]
    if not line.isascii() or with_checksum(text) != line:
        raise ValueError("it has changed since it was written")
    return text


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it has no '{place}'"
    if first["type"] == "extra_forbidden":
        return f"it has an unknown '{place}'"
    message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{f'its {place!r}' if place else 'it'} is {short_repr(first['input'])}: {message}"
