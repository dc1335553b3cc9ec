"""Clusters of siblings: 3 to 12 products in a row that answer the same query and differ in little.

What makes a goal hard is decided here. Each sibling has one of the cluster's *signatures*, an attribute that siblings
with another signature lack; every instruction names it. So each goal has distractors that fail it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from agentgym_rft.envs.webshop.synth.draws import Draws
from agentgym_rft.envs.webshop.synth.tables import OptionTable, Phrase, ProductType, departments, option_tables

BLOCK = 50  # products that are divided into clusters together; a catalogue of a multiple of it has whole clusters
_SMALLEST, _LARGEST = 3, 12
_SIGNATURES = tuple(accumulate((0.35, 0.4, 0.25)))  # 2, 3 or 4
_CORE = tuple(accumulate((0.3, 0.45, 0.25)))  # 1, 2 or 3
_DECORATED = 0.7  # share of the values that follow the decoration of their cluster
# Departments and numbers of option groups follow an even sequence (R2 of Roberts, 2018) and not free draws: 1,000
# products are only about 130 clusters, and their statistics would vary much from seed to seed.
_EVEN_STEPS = (0.7548776662466927, 0.5698402909980532)
_MOST_CLUSTERS = BLOCK // _SMALLEST


@dataclass(frozen=True, slots=True)
class OptionPool:
    """The values of a group that the siblings of a cluster choose theirs from."""

    name: str
    ordered: bool
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The properties that siblings share."""

    name: str
    first: int  # index of its first product
    kind: ProductType
    signatures: tuple[Phrase, ...]
    core: tuple[Phrase, ...]  # most siblings have these
    extras: tuple[Phrase, ...]  # some have some of these
    groups: tuple[OptionPool, ...]
    price: float


def find_cluster(seed: int, i: int) -> Cluster:
    """Return the cluster of product i."""
    block, place = divmod(i, BLOCK)
    return _block(seed, block)[place]


@lru_cache(maxsize=64)
def _block(seed: int, block: int) -> tuple[Cluster, ...]:
    """Return the cluster of each product of a block."""
    draws = Draws(seed, "block", block)
    starts = Draws(seed, "even", 0)
    offsets = (starts.uniform(), starts.uniform())
    members: list[Cluster] = []
    number = 0
    while len(members) < BLOCK:
        size = _size(draws, BLOCK - len(members))
        place = block * _MOST_CLUSTERS + number
        even = [(offset + step * place) % 1.0 for offset, step in zip(offsets, _EVEN_STEPS, strict=True)]
        members += [_cluster(draws, f"{block}.{number}", block * BLOCK + len(members), even)] * size
        number += 1
    return tuple(members)


def _size(draws: Draws, left: int) -> int:
    """Return the size of the next cluster, so that what is left can be divided, too."""
    size = min(_SMALLEST + draws.below(_LARGEST - _SMALLEST + 1), left)
    if 0 < left - size < _SMALLEST:
        return left if left <= _LARGEST else size - 2
    return size


def _cluster(draws: Draws, name: str, first: int, even: Sequence[float]) -> Cluster:
    types, weights = departments()
    kind = draws.one(types[_pick(weights, even[0])])
    attributes = draws.some(kind.attributes, len(kind.attributes))
    num_signatures = 2 + draws.weighted(_SIGNATURES)
    num_core = 1 + draws.weighted(_CORE)
    tables = option_tables()
    names = kind.options[: _pick(kind.group_counts, even[1])]
    return Cluster(
        name=name,
        first=first,
        kind=kind,
        signatures=tuple(attributes[:num_signatures]),
        core=tuple(attributes[num_signatures : num_signatures + num_core]),
        extras=tuple(attributes[num_signatures + num_core :]),
        groups=tuple(_pool(draws, tables[group]) for group in names),
        price=0.75 * kind.price * 2.0 ** (0.8 * draws.spread()),
    )


def _pick(cumulative: Sequence[float], place: float) -> int:
    """Return the index whose share of the weights holds a place in [0, 1)."""
    return bisect_right(cumulative, place * cumulative[-1])


def _pool(draws: Draws, table: OptionTable) -> OptionPool:
    decoration = draws.one(table.decorations)
    own_words = set(decoration.split())
    values = [
        decoration.format(value) if value not in own_words and draws.chance(_DECORATED) else value
        for value in table.values
    ]
    return OptionPool(table.name, table.ordered, tuple(values))
