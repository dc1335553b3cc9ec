"""Products of a shop: one raw entry of the original items file, cleaned as the original does it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentgym_rft.errors import DataError

NO_ATTRIBUTES = ("DUMMY_ATTR",)  # what a product has that the attributes file does not know
_MISSING_PRICE = 100.0
_MAX_ASIN = 10
_NOT_A_PRICE = re.compile(r"[^\d.]")


@dataclass(frozen=True, slots=True)
class Product:
    """One product.

    `prices` are the ends of its price range: one value, or two, `(100.0,)` where the file has none. `options` are
    (group, values) in document order.
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    category: str
    query: str
    product_category: str
    prices: tuple[float, ...]
    price_text: str
    options: tuple[tuple[str, tuple[str, ...]], ...]
    attributes: tuple[str, ...]


class ProductStore(Protocol):
    """The products of a catalogue by row; a row is a position in the catalogue."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Product: ...

    def row_of(self, asin: str) -> int:
        """Return the row of a product. Raises KeyError if there is none."""
        ...


def is_usable(raw: Mapping[str, Any]) -> bool:
    """Return false for the entries that the original skips: no asin, or one that is too long.
    Duplicates are not seen here.
    """
    asin = raw.get("asin")
    return isinstance(asin, str) and asin != "nan" and 0 < len(asin) <= _MAX_ASIN


def clean_product(raw: Mapping[str, Any], attributes: Sequence[str]) -> Product:
    """Return the product of one entry of the items file.

    Args:
        raw: the entry, as the file has it.
        attributes: those of the attributes file, `NO_ATTRIBUTES` where it does not know the product.
    Raises:
        DataError: a key is missing or of the wrong type.
    """
    try:
        bullets = raw["small_description"]
        prices, price_text = _prices(raw.get("pricing"))
        return Product(
            asin=_text(raw, "asin"),
            title=_text(raw, "name"),
            description=_text(raw, "full_description"),
            bullets=tuple(map(str, bullets)) if isinstance(bullets, list | tuple) else (str(bullets),),
            category=_text(raw, "category"),
            query=_text(raw, "query").lower().strip(),
            product_category=_text(raw, "product_category"),
            prices=prices,
            price_text=price_text,
            options=_options(raw["customization_options"] or {}),
            attributes=tuple(attributes),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"Product '{raw.get('asin')}' cannot be read ({type(error).__name__}: {error}); "
            "expected an entry of the original items file."
        ) from error


def search_document(product: Product) -> str:
    """Return a product's text for the search: title, description, first bullet and options, in lower case."""
    options = ", and ".join(f"{group}: {', '.join(values)}" for group, values in product.options)
    first = product.bullets[0] if product.bullets else ""
    return " ".join((product.title, product.description, first, options)).lower()


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str):
        raise TypeError(f"'{key}' is a {type(value).__name__}")
    return value


def _prices(pricing: str | None) -> tuple[tuple[float, ...], str]:
    """Return the ends of a price range and the text shown, of a text such as `$10.00 - $20.00`."""
    found = [float(_NOT_A_PRICE.sub("", part)) for part in (pricing or "").split("$")[1:]]
    if not found:
        found = [_MISSING_PRICE]
    if len(found) == 1:
        return (found[0],), f"${found[0]}"
    return (found[0], found[1]), f"${found[0]} to ${found[1]}"


def _options(raw: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    groups: dict[str, tuple[str, ...]] = {}
    for name, values in raw.items():
        if values is not None:
            groups[name.lower()] = tuple(value["value"].strip().replace("/", " | ").lower() for value in values)
    return tuple(groups.items())
