"""Mutations of files for `fuzz.py`: of their bytes, and of the values in JSON, YAML and safetensors headers."""

from __future__ import annotations

import copy
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import yaml
import zstandard

_DEEP = "DEEP"  # stands for a value of 3,000 levels, which no writer of JSON would write
_HUGE = "HUGE"  # for a number of 5,000 digits
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e308, -1e308),
    *(float("nan"), float("inf"), "", "no", "0", "a" * 300, "\ud800", "\x00", "../../x", "[/oops]", "é\u2028", "-1"),
    *([], {}, [[]], {"": None}, [0, 0], ["a"], {"a": 1}, _DEEP, _HUGE),
)
_LINE = re.compile(r"([0-9a-f]{8} )?([0-9.]+ )?(.*)")  # of a file in which lines have a checksum, or none
_DEEP_TEXT, _HUGE_TEXT = "[" * 3000 + "]" * 3000, "9" * 5000


def mutated(content: bytes, form: str, rng: random.Random) -> bytes:
    """Return a file's content, changed in its bytes or, where its form is known, in its values."""
    change = _FORMS.get(form)
    if change is None or rng.random() < 0.3:
        return _bytes(content, rng)
    try:
        return change(content, rng)
    except (ValueError, yaml.YAMLError, zstandard.ZstdError):  # it is no longer of the form: several were changed
        return _bytes(content, rng)


def _bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    at, length = rng.randrange(len(content) + 1), 1 + int(2 ** rng.uniform(0, 10))
    match rng.randrange(9):
        case 0 | 1:
            for _ in range(rng.choice((1, 1, 1, 4))):
                bit = rng.randrange(8 * max(len(changed), 1))
                changed[bit // 8 : bit // 8 + 1] = bytes([(changed or b"\0")[bit // 8] ^ 1 << bit % 8])
        case 2:
            del changed[at:]
        case 3:
            del changed[at : at + length]
        case 4:
            changed[at:at] = content[at : at + length]
        case 5:
            changed[at:at] = rng.randbytes(length)
        case 6:
            changed[at : at + length] = rng.choice((b"\0", b"\xff", b"9", b"[", b'"', b"\n")) * length
        case 7:
            start = rng.randrange(len(content) + 1)
            changed[at : at + length] = content[start : start + length]
        case _:
            return rng.choice((b"", b"null", b"[]", b"{}", b"\0", rng.randbytes(length), _DEEP_TEXT.encode()))
    return bytes(changed)


def _json(content: bytes, rng: random.Random) -> bytes:
    return _dumped(_changed(json.loads(content), rng)).encode()


def _json_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.decode().rstrip("\n").split("\n")
    at = rng.randrange(len(lines))
    checksum, seconds, body = _LINE.fullmatch(lines[at]).groups(default="")
    text = seconds + _dumped(_changed(json.loads(body), rng))
    lines[at] = f"{zlib.crc32(text.encode()):08x} {text}" if checksum else text
    if rng.random() < 0.1:
        lines.insert(at, rng.choice(lines))
    return "\n".join((*lines, "")).encode()


def _zstd_lines(content: bytes, rng: random.Random) -> bytes:
    plain = zstandard.decompress(content)
    changed = _bytes(plain, rng) if rng.random() < 0.2 else _json_lines(plain, rng)
    return zstandard.ZstdCompressor(write_checksum=rng.random() < 0.5).compress(changed)


def _yaml(content: bytes, rng: random.Random) -> bytes:
    changed = yaml.safe_dump(_changed(yaml.safe_load(content), rng), sort_keys=False, allow_unicode=False)
    return _filled(changed).encode()


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = _json(content[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


_FORMS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _json,
    "jsonl": _json_lines,
    "zst": _zstd_lines,
    "yaml": _yaml,
    "safetensors": _safetensors,
}


def _changed(value: Any, rng: random.Random) -> Any:
    """Return a value in which one or two parts have another value, another key, another place, or are gone."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2))):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(rng.choice(_VALUES))
        where, key = rng.choice(places)
        match rng.randrange(8):
            case 0:
                del where[key]
            case 1:
                other, other_key = rng.choice(places)
                where[key] = copy.deepcopy(other[other_key])
            case 2 if isinstance(where, dict):
                where[rng.choice((f"{key}x", "", "a" * 200, "\x00"))] = where.pop(key)
            case 3 if isinstance(where[key], list):
                where[key] *= rng.choice((2, 50))
            case 4 if isinstance(where[key], (int, float)):
                where[key] *= rng.choice((-1, 10, 1000, 10**9))
            case 5 if isinstance(where[key], str):
                where[key] = _bytes(where[key].encode(errors="replace"), rng).decode(errors="replace")
            case _:
                where[key] = copy.deepcopy(rng.choice(_VALUES))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _dumped(value: Any) -> str:
    return _filled(json.dumps(value, separators=(",", ":")))


def _filled(text: str) -> str:
    return text.replace(f'"{_DEEP}"', _DEEP_TEXT).replace(f'"{_HUGE}"', _HUGE_TEXT).replace(_DEEP, _DEEP_TEXT)
