"""All goals of a catalogue as a sequence in which each goal is made when it is asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from agentgym_rft.envs.webshop.goals import (
    HUMAN,
    NO_CAP,
    TEMPLATE,
    Goal,
    Option,
    Pricing,
    Wish,
    Wishes,
    WishStore,
    combination,
    count_variants,
    text_hash,
)
from agentgym_rft.envs.webshop.products import Product
from agentgym_rft.errors import DataError


@dataclass(frozen=True, slots=True)
class RowTable:
    """The data of all products that goals and splits need without reading them; each array `[number of products]`."""

    num_variants: NDArray[np.int64]  # combinations of options of the template goal; 0 without one
    num_distinct: NDArray[np.int64]  # the same without repeated values
    num_humans: NDArray[np.int64]
    asin_hash: NDArray[np.uint64]
    query_hash: NDArray[np.uint64]


class TableBuilder:
    """Makes the table of products that are added one after the other."""

    def __init__(self) -> None:
        self._counts: list[tuple[int, int, int]] = []
        self._hashes: list[tuple[int, int]] = []

    def add(self, product: Product, wishes: Wishes) -> None:
        """The next row."""
        self._counts.append((*count_variants(product, wishes), len(wishes.humans)))
        self._hashes.append((text_hash(product.asin), text_hash(product.query)))

    def table(self) -> RowTable:
        """Return the table of all rows so far."""
        counts = np.array(self._counts, np.int64).reshape(-1, 3)
        hashes = np.array(self._hashes, np.uint64).reshape(-1, 2)
        return RowTable(*np.ascontiguousarray(counts.T), *np.ascontiguousarray(hashes.T))


@dataclass(frozen=True, slots=True)
class GoalRules:
    """The rules by which goals are made.

    `max_variants`: most option combinations of a product, repeated values once.
    """

    kinds: tuple[str, ...] = (TEMPLATE,)
    max_variants: int | None = None
    pricing: Pricing = field(default_factory=Pricing)


class Goals(Sequence[Goal]):
    """All goals of a catalogue, in the original's order before its shuffle; each is made when it is asked for."""

    def __init__(self, store: WishStore, table: RowTable, rules: GoalRules) -> None:
        self.rules = rules
        self._store = store
        self._table = table
        counts = [self._counts(kind) for kind in rules.kinds]
        flat = np.concatenate(counts) if counts else np.zeros(0, np.int64)
        self._ends: NDArray[np.int64] = np.cumsum(flat)  # [kinds x products]
        self._make = lru_cache(maxsize=8192)(self._goal)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> Goal: ...

    @overload
    def __getitem__(self, index: slice) -> list[Goal]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"There is no goal {index}; there are {len(self)}.")
        return self._make(int(index))

    def id_of(self, index: int) -> str:
        """Return `<kind>/<asin>/<variant>` of a goal, which is stable where its position is not."""
        kind, row, position = self._place(index)
        asin = self._store[row].asin
        return f"{kind}/{asin}/{self._variant(kind, row, position)}"

    def index_of(self, goal_id: str) -> int:
        """Return the position of a goal. Raises KeyError if there is none."""
        kind, _, rest = goal_id.partition("/")
        asin, _, variant = rest.rpartition("/")
        if kind not in self.rules.kinds or not (variant.isascii() and variant.isdigit()):
            raise KeyError(goal_id)
        row = self._store.row_of(asin)
        slot = self.rules.kinds.index(kind) * len(self._store) + row
        start = int(self._ends[slot - 1]) if slot else 0
        number = int(self._ends[slot]) - start
        chosen = self._chosen(row, number) if kind == TEMPLATE else range(number)
        if f"{int(variant)}" != variant or int(variant) not in chosen:
            raise KeyError(goal_id)
        return start + chosen.index(int(variant))

    def rows(self) -> NDArray[np.int64]:
        """Return the row of each goal, `[number of goals]`."""
        sizes = np.diff(self._ends, prepend=0)
        return np.repeat(np.tile(np.arange(len(self._store)), len(self.rules.kinds)), sizes)

    def weights(self) -> NDArray[np.float64]:
        """Return the original's weights of the goals, `[number of goals]`: rare attributes weigh more; human goals
        weigh 1.
        """
        blocks = []
        sizes = np.diff(self._ends, prepend=0).reshape(len(self.rules.kinds), -1)
        for kind, counts in zip(self.rules.kinds, sizes, strict=True):
            weights = self._template_weights(counts) if kind == TEMPLATE else np.ones(len(counts))
            blocks.append(np.repeat(weights, counts))
        return np.concatenate(blocks)

    def _template_weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = np.flatnonzero(counts).tolist()
        seen: dict[str, int] = {}
        for row in rows:
            for attribute in self._template(row).attributes:
                seen[attribute] = seen.get(attribute, 0) + int(counts[row])
        weights = np.zeros(len(counts))
        for row in rows:
            attributes = self._template(row).attributes
            weights[row] = sum(1.0 / seen[attribute] for attribute in attributes) / len(attributes)
        return weights

    def _counts(self, kind: str) -> NDArray[np.int64]:
        if kind == HUMAN:
            return self._table.num_humans
        if self.rules.max_variants is None:
            return self._table.num_variants
        return np.minimum(self._table.num_distinct, self.rules.max_variants)

    def _place(self, index: int) -> tuple[str, int, int]:
        """Return kind, row and position among the goals of its kind and row."""
        slot = int(np.searchsorted(self._ends, index, side="right"))
        kind, row = divmod(slot, len(self._store))
        return self.rules.kinds[kind], row, index - (int(self._ends[slot - 1]) if slot else 0)

    def _variant(self, kind: str, row: int, position: int) -> int:
        if kind == HUMAN or self.rules.max_variants is None:
            return position
        return self._chosen(row, min(int(self._table.num_distinct[row]), self.rules.max_variants))[position]

    def _chosen(self, row: int, number: int) -> Sequence[int]:
        """Return the combinations of a product that are goals, in order."""
        total = int(self._table.num_distinct[row])
        if self.rules.max_variants is None or number == total:
            return range(number)
        chooser = random.Random(f"variants {self.rules.pricing.seed} {self._store[row].asin}")
        return sorted(chooser.sample(range(total), number))

    def _template(self, row: int) -> Wish:
        wish = self._store.wishes(row).template
        assert wish is not None, "the table counts goals of a product that has no instruction"
        return wish

    def _goal(self, index: int) -> Goal:
        kind, row, position = self._place(index)
        product = self._store[row]
        variant = self._variant(kind, row, position)
        goal_id = f"{kind}/{product.asin}/{variant}"
        options: tuple[Option, ...]
        if kind == HUMAN:
            wish = self._store.wishes(row).humans[position]
            text, options = wish.text, wish.options or ()
        else:
            wish = self._template(row)
            pairs = combination(product, variant, is_distinct=self.rules.max_variants is not None)
            text = wish.text + (" with " + ", and ".join(f"{k}: {v}" for k, v in pairs) if pairs else "")
            options = pairs
        cap = self.rules.pricing.cap(product, goal_id)
        return Goal(
            id=goal_id,
            asin=product.asin,
            title=product.title,
            category=product.category,
            query=product.query,
            product_category=product.product_category,
            instruction=text + (f", and price lower than {cap:.2f} dollars" if cap < NO_CAP else ""),
            attributes=wish.attributes,
            options=options,
            price_upper=cap,
        )


def weighted_index(weights: NDArray[np.float64], rng: random.Random) -> int:
    """Return a goal drawn by weight as the original does it: the first is never drawn, the last takes the share of two.

    Raises `DataError` with fewer than two goals, where the original would draw nonsense.
    """
    if len(weights) < 2:
        raise DataError(f"There are {len(weights)} goals; a weighted draw needs at least 2.")
    ends = np.concatenate([[0.0], np.cumsum(weights)])
    position = rng.uniform(0, float(ends[-1]))
    return min(int(np.searchsorted(ends, position, side="right")), len(ends) - 2)
