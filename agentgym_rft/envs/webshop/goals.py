"""Goals of customers, made of products and of the two instruction files by the original's rules."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from agentgym_rft.envs.webshop.products import Product, ProductStore
from agentgym_rft.errors import DataError

TEMPLATE, HUMAN = "template", "human"
KINDS = (TEMPLATE, HUMAN)
NO_CAP = 1_000_000.0  # the cap of a product so expensive that the original names none
_CAP_STEPS = tuple(10.0 * step for step in range(1, 100))

Option = tuple[str, str] | str  # (group, value) of a template goal, the value alone of a human one


@dataclass(frozen=True, slots=True)
class Wish:
    """One way to ask for a product. `options` None: any combination of the product's options is a goal of its own."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """All ways to ask for one product: at most one template, and what people wrote."""

    template: Wish | None = None
    humans: tuple[Wish, ...] = ()


class WishStore(ProductStore, Protocol):
    """Products with the wishes for them."""

    def wishes(self, row: int) -> Wishes:
        """Return the wishes for the product of a row."""
        ...


@dataclass(frozen=True, slots=True)
class Goal:
    """A product to buy, its options, and the highest price. `id` is `<kind>/<asin>/<variant>`."""

    id: str
    asin: str
    title: str
    category: str
    query: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[Option, ...]
    price_upper: float

    def content(self) -> bytes:
        """Canonical content: everything that the instruction and the reward depend on."""
        values = asdict(self)
        del values["id"]
        return json.dumps(values, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class Pricing:
    """Prices and caps, drawn once for each product or goal from the seed; the original draws them unseeded.

    `prices` and `caps` (by asin) replace draws, to replay recorded episodes.
    """

    seed: int = 0
    cap_per_goal: bool = False  # the original: one cap for all template goals of a product
    prices: Mapping[str, float] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)

    def price(self, product: Product) -> float:
        """Return the price of a product: the given one, the only one, or one drawn from its range."""
        given = self.prices.get(product.asin)
        if given is not None:
            return given
        if len(product.prices) == 1:
            return product.prices[0]
        return random.Random(f"price {self.seed} {product.asin}").uniform(*product.prices[:2])

    def cap(self, product: Product, goal_id: str) -> float:
        """Return the highest accepted price of a goal: one of the next four multiples of 10, or `NO_CAP`."""
        given = self.caps.get(product.asin)
        if given is not None:
            return given
        price = self.price(product)
        steps = [step for step in _CAP_STEPS if step > price][:4]
        if len(steps) < 2:
            return NO_CAP
        is_shared = goal_id.startswith(TEMPLATE) and not self.cap_per_goal
        return max(random.Random(f"cap {self.seed} {product.asin if is_shared else goal_id}").sample(steps, 2))


def read_template(entry: Mapping[str, Any], asin: str) -> Wish | None:
    """Return the template wish of one entry of `items_ins_v2`, None without instruction. Raises `DataError`."""
    text = entry.get("instruction")
    if text is None:
        return None
    attributes = entry.get("instruction_attributes")
    if not isinstance(text, str) or not _are_texts(attributes) or not attributes:
        raise DataError(
            f"The instruction of '{asin}' is damaged; expected a text and a list of instruction_attributes."
        )
    return Wish(text, tuple(attributes), None)


def read_humans(entries: Sequence[Mapping[str, Any]], asin: str) -> tuple[Wish, ...]:
    """Return the wishes of one product in `items_human_ins`; those without attributes are left out.
    Raises `DataError`.
    """
    wishes = []
    for each in entries:
        entry = each if isinstance(each, Mapping) else {}
        text, attributes = entry.get("instruction"), entry.get("instruction_attributes")
        options = entry.get("instruction_options", [])
        if not isinstance(text, str) or not _are_texts(attributes) or not _are_texts(options):
            raise DataError(
                f"A human instruction of '{asin}' is damaged; expected instruction, instruction_attributes and "
                "instruction_options."
            )
        if attributes:
            wishes.append(Wish(text.strip("."), tuple(attributes), tuple(options)))
    return tuple(wishes)


def count_variants(product: Product, wishes: Wishes) -> tuple[int, int]:
    """Return the number of option combinations of the template goal, with and without repeated values."""
    if wishes.template is None:
        return 0, 0
    groups = [values for _, values in product.options]
    return math.prod(len(values) for values in groups), math.prod(len(set(values)) for values in groups)


def combination(product: Product, variant: int, *, is_distinct: bool) -> tuple[tuple[str, str], ...]:
    """Return the `variant`-th element of the product of all option groups, groups by name, the last one running
    fastest.
    """
    pairs: list[tuple[str, str]] = []
    for group, values in sorted(product.options, reverse=True):
        choices = tuple(dict.fromkeys(values)) if is_distinct else values
        variant, position = divmod(variant, len(choices))
        pairs.append((group, choices[position]))
    return tuple(reversed(pairs))


def text_hash(text: str) -> int:
    """Return 64 bits that depend on the text only."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _are_texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)
