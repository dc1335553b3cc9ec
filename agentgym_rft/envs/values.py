"""Numbers that environments give: Python's own, numpy's scalars and arrays without dimensions, as plain types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from agentgym_rft.errors import EnvError


def as_number(name: str, value: Any) -> float:
    """Return a number. Raises `EnvError` for anything that is not one, and for one that is not finite."""
    try:
        if isinstance(value, (str, bytes, bytearray)):  # `float` would read them
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise EnvError(f"The environment gave {name} of type {type(value).__name__}, expected one number.") from error
    if not math.isfinite(number):
        raise EnvError(f"The environment gave {name} {number}, expected a finite number.")
    return number


def as_score(value: Any) -> float:
    """Return a score. Raises `EnvError` for what is not from 0 to 1."""
    score = as_number("score", value)
    if not 0.0 <= score <= 1.0:
        raise EnvError(f"The environment gave score {score}, expected 0 to 1.")
    return score


def as_won(value: Any) -> bool:
    """Return if an episode was won. Raises `EnvError` for what is neither true nor false: no text counts as a win."""
    won = as_number("won", value)
    if won not in (0.0, 1.0):
        raise EnvError(f"The environment gave won={won}, expected True or False.")
    return bool(won)


def as_measures(value: Any) -> dict[str, float]:
    """Return measures. Raises `EnvError` for what are not finite numbers by name."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise EnvError(f"The environment gave measures of type {type(value).__name__}, expected numbers by name.")
    return {name: as_number(f"measures['{name}']", value[name]) for name in value}
