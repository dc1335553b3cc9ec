"""The words of the synthetic catalogue: departments, product types, options and sentences, read from `data/`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

DEPARTMENTS = ("beauty", "electronics", "garden", "fashion", "grocery")
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Phrase:
    """An attribute of two words, such as `easy clean`; `link` is what joins it to a noun: nothing, `with` or `for`."""

    text: str
    link: str

    @property
    def linked(self) -> str:
        return f"{self.link} {self.text}" if self.link else self.text


@dataclass(frozen=True, slots=True)
class OptionTable:
    """Values of one kind of option group. `ordered` values are offered as runs, such as small to large."""

    name: str
    ordered: bool
    values: tuple[str, ...]
    decorations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProductType:
    """A kind of product: what it is called, what it may be like, which options it has, what it costs."""

    category: str
    product_category: str
    query: str
    noun: str
    other: str  # an accessory that is found under the same query
    price: float  # median, dollars
    attributes: tuple[Phrase, ...]
    options: tuple[str, ...]  # kinds of option groups, the usual ones first
    group_counts: tuple[float, ...]  # cumulative weights of 0, 1, ... option groups
    parts: tuple[str, ...]
    uses: tuple[str, ...]


@lru_cache(maxsize=1)
def departments() -> tuple[tuple[tuple[ProductType, ...], ...], tuple[float, ...]]:
    """Return the product types of each department, and the cumulative weights of the departments."""
    tables = [_read(name) for name in DEPARTMENTS]
    types = tuple(
        tuple(kind for family in table["families"] for kind in _family_types(table, family)) for table in tables
    )
    return types, tuple(accumulate(float(table["weight"]) for table in tables))


@lru_cache(maxsize=1)
def option_tables() -> Mapping[str, OptionTable]:
    """Return the option groups by kind."""
    return {
        kind: OptionTable(row["name"], row.get("ordered", False), tuple(row["values"]), tuple(row["decorations"]))
        for kind, row in _read("options").items()
    }


@lru_cache(maxsize=1)
def phrases() -> Mapping[str, tuple[str, ...]]:
    """Return brands and sentence templates by purpose."""
    return {name: tuple(lines) for name, lines in _read("phrases").items() if name != "reworded"}


@lru_cache(maxsize=1)
def reworded() -> Mapping[str, str]:
    """Return some attributes in people's wording."""
    return dict(_read("phrases")["reworded"])


@lru_cache(maxsize=4096)
def title_case(text: str) -> str:
    """Return the text with a capital at the start of each word: `women's dress` gives `Women's Dress`."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))
    return content


def _family_types(department: Mapping[str, Any], family: Mapping[str, Any]) -> Iterable[ProductType]:
    for row in family["types"]:
        path = (department["path"], family["path"], row["path"], title_case(row["query"]))
        yield ProductType(
            category=department["category"],
            product_category=" › ".join(path),
            query=row["query"],
            noun=row["noun"],
            other=row["other"],
            price=float(row["price"]),
            attributes=tuple(_phrase(text) for text in (*row["extra"], *family["attributes"])),
            options=tuple(row.get("options", family["options"])),
            group_counts=tuple(accumulate(department["group_counts"])),
            parts=tuple(family["parts"]),
            uses=tuple(family["uses"]),
        )


def _phrase(text: str) -> Phrase:
    link, _, rest = text.partition(" ")
    return Phrase(rest, link) if link in ("with", "for") else Phrase(text, "")
