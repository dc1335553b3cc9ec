"""A catalogue on disk: one JSON line a product, offsets, and what goals need, mapped into memory and read lazily."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import astuple, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agentgym_rft.envs.text_search.index_files import load_array
from agentgym_rft.envs.webshop.goals import Wish, Wishes
from agentgym_rft.envs.webshop.products import Product
from agentgym_rft.errors import DataError
from agentgym_rft.json_text import parse_json

_LINES, _OFFSETS, _SORTED, _ROWS = "products.jsonl", "offsets.npy", "asins.npy", "rows_by_asin.npy"
_FIELDS = [field.name for field in fields(Product)]
_PRODUCTS_KEPT = 4096  # decoded products that a store remembers


class RecordStore:
    """The products of a folder that `write_records` made. Memory grows with what is looked at, up to a limit."""

    def __init__(self, folder: Path) -> None:
        self._offsets = load_array(folder / _OFFSETS)  # [products + 1], bytes
        self._asins = load_array(folder / _SORTED)  # [products], sorted
        self._rows = load_array(folder / _ROWS)  # [products], the row of each of those
        try:
            self._bytes = _mapped(folder / _LINES)
        except OSError as error:
            raise DataError(f"The products in {folder} are damaged ({error}); delete the folder.") from error
        arrays, number = (self._offsets, self._asins, self._rows), self._asins.size
        if [(a.dtype.kind, a.shape) for a in arrays] != [("i", (number + 1,)), ("S", (number,)), ("i", (number,))]:
            raise DataError(f"The products in {folder} are damaged; delete the folder, it is made again.")
        if len(self._bytes) != int(self._offsets[-1]):
            raise DataError(f"{folder / _LINES} is truncated; delete the folder, it is made again.")
        self._folder = folder
        self._record = lru_cache(maxsize=_PRODUCTS_KEPT)(self._read)

    def __len__(self) -> int:
        return len(self._asins)

    def __getitem__(self, row: int) -> Product:
        return self._record(row)[0]

    def wishes(self, row: int) -> Wishes:
        """Return the wishes for the product of a row."""
        return self._record(row)[1]

    def row_of(self, asin: str) -> int:
        """Return the row of a product. Raises KeyError if there is none."""
        wanted = asin.encode("utf-8", "surrogatepass")
        place = int(np.searchsorted(self._asins, wanted))
        if place == len(self) or self._asins[place] != wanted:
            raise KeyError(asin)
        return int(self._rows[place])

    def _read(self, row: int) -> tuple[Product, Wishes]:
        if not 0 <= row < len(self):
            raise IndexError(f"There is no row {row}; there are {len(self)}.")
        try:
            return decode(self._bytes[int(self._offsets[row]) : int(self._offsets[row + 1])])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"Product {row} in {self._folder} is damaged; delete the folder.") from error


def _mapped(path: Path) -> mmap.mmap | bytes:
    if not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def write_records(folder: Path, entries: Iterable[tuple[Product, Wishes]]) -> Iterator[tuple[Product, Wishes]]:
    """Write products and wishes into a folder while they pass through; all is written when the iterator ends."""
    offsets, asins = [0], []
    with (folder / _LINES).open("wb") as file:
        for product, wishes in entries:
            file.write(encode(product, wishes))
            offsets.append(file.tell())
            asins.append(product.asin.encode("utf-8", "surrogatepass"))
            yield product, wishes
    names = np.array(asins, dtype=bytes) if asins else np.zeros(0, "S1")
    order = np.argsort(names, kind="stable")
    np.save(folder / _OFFSETS, np.array(offsets, np.int64))
    np.save(folder / _SORTED, names[order])
    np.save(folder / _ROWS, order.astype(np.int32))


def encode(product: Product, wishes: Wishes) -> bytes:
    """Return one line."""
    template = wishes.template
    record = {
        "product": list(astuple(product)),
        "template": None if template is None else [template.text, template.attributes],
        "humans": [[wish.text, wish.attributes, wish.options] for wish in wishes.humans],
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> tuple[Product, Wishes]:
    """Return the value that `encode` was given."""
    record: dict[str, Any] = parse_json(line)
    values = dict(zip(_FIELDS, record["product"], strict=True))
    values["options"] = tuple((group, tuple(choices)) for group, choices in values["options"])
    for name in ("bullets", "prices", "attributes"):
        values[name] = tuple(values[name])
    template = record["template"]
    humans = tuple(Wish(text, tuple(attributes), tuple(options)) for text, attributes, options in record["humans"])
    return Product(**values), Wishes(template and Wish(template[0], tuple(template[1]), None), humans)
