"""Product numbers: `B0` and eight characters, a seeded permutation that can be undone, so that no table is needed."""

from __future__ import annotations

import hashlib
from functools import lru_cache

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HALF = 36**4
_MASK = 2**64 - 1
_ROUNDS = 4


def asin_of(seed: int, i: int) -> str:
    """Return the number of product i: a Feistel network over two halves of four base-36 digits. 0 <= i < 36**8."""
    left, right = divmod(i, _HALF)
    for key in _keys(seed):
        left, right = right, (left + _mix(right, key)) % _HALF
    return f"B0{_digits(left)}{_digits(right)}"


def index_of(seed: int, asin: str) -> int:
    """Return the i of an asin that `asin_of` made. Raises KeyError for another text."""
    if len(asin) != 10 or asin[:2] != "B0" or any(digit not in _DIGITS for digit in asin):
        raise KeyError(asin)
    left, right = int(asin[2:6], 36), int(asin[6:], 36)
    for key in reversed(_keys(seed)):
        left, right = (right - _mix(left, key)) % _HALF, left
    return left * _HALF + right


@lru_cache(maxsize=16)
def _keys(seed: int) -> tuple[int, ...]:
    digest = hashlib.sha256(f"webshop asin {seed}".encode()).digest()
    return tuple(int.from_bytes(digest[8 * k : 8 * k + 8], "big") for k in range(_ROUNDS))


def _mix(value: int, key: int) -> int:
    """Return a hash of 64 bits: the finaliser of SplitMix64 (Steele et al. 2014)."""
    value = (value + key) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _digits(value: int) -> str:
    text = ""
    for _ in range(4):
        value, digit = divmod(value, 36)
        text = _DIGITS[digit] + text
    return text
