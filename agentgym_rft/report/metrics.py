"""`metrics.jsonl`: one JSON object for each step, appended during the run, readable after a crash."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, TypeAdapter, with_config
from typing_extensions import TypedDict

from agentgym_rft.errors import DataError
from agentgym_rft.json_text import OPEN, checked_json
from agentgym_rft.report.result_types import LARGEST, Count
from agentgym_rft.store.files import write_atomically

Row = dict[str, Any]


def _check_numbers(row: Row) -> Row:
    """Return the row. Raises ValueError for a number that no axis can show."""
    for key, value in row.items():
        if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
            raise ValueError(f"its '{key}' is larger than {LARGEST:g}")
    return row


@with_config(OPEN)
class _Stepped(TypedDict):
    step: Count


_ROW: TypeAdapter[Any] = TypeAdapter(Annotated[_Stepped, AfterValidator(_check_numbers)])


class MetricsWriter:
    """Appends rows to a metrics file and flushes each, so that a killed run loses at most the row being written.

    Args:
        path: the file; its folder must exist.
        last_step: keep the rows of an earlier run up to this step and drop later ones, which the resumed run will write
            again. None keeps nothing.
    """

    def __init__(self, path: Path, last_step: int | None = None) -> None:
        self.path = path
        kept = [] if last_step is None else [row for row in read_metrics(path) if row["step"] <= last_step]
        write_atomically(path, "".join(_line(row) for row in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row. Values that are no finite number are written as null. Raises `ValueError` without a `step`."""
        if "step" not in row:
            raise ValueError(f"A metrics row needs a 'step'; this one has {sorted(row)}.")
        self._file.write(_line(row))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[Row]:
    """Return the rows of a metrics file, [] if there is none. A torn last line is left out.

    Raises:
        DataError: a line other than the last one is damaged.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows: list[Row] = []
    for number, line in enumerate(lines[:-1], start=1):  # the last line ends without a newline: empty, or torn
        try:
            rows.append(checked_json(_ROW, line))
        except ValueError as error:
            raise DataError(f"Line {number} of '{path}' is no metrics row: {error}.") from error
    return rows


def column(rows: list[Row], key: str) -> tuple[list[float], list[float]]:
    """Return steps and values of one metric, where it was recorded as a number."""
    pairs = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), (int, float))]
    return [float(step) for step, _ in pairs], [float(value) for _, value in pairs]


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({key: _plain(value) for key, value in row.items()}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
