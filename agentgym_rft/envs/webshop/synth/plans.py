"""The plan of one product: its attributes and where they can be read, its options, its price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from agentgym_rft.envs.webshop.synth.asins import asin_of
from agentgym_rft.envs.webshop.synth.clusters import Cluster, OptionPool, find_cluster
from agentgym_rft.envs.webshop.synth.draws import Draws
from agentgym_rft.envs.webshop.synth.tables import Phrase, phrases

INSTRUCTED = 0.415  # share of products with a synthetic instruction
_NUM_NAMED = tuple(accumulate((0.3, 0.33, 0.22, 0.15)))  # attributes in an instruction: 2, 3, 4 or 5
_NUM_VALUES = tuple(accumulate((0.08, 0.14, 0.16, 0.17, 0.12, 0.1, 0.06, 0.04, 0.03, 0.04, 0.02, 0.04)))  # 1, 2, ... 12
_MANY = (0.02, 24)  # share of groups with as many values as there are, up to a number
_MAX_IN_TITLE = 3
_EXCLUSIVE = frozenset({"sleeve", "fit", "toe", "leg", "roast", "size", "bed", "finish", "wash", "sole", "waist"})


@dataclass(frozen=True, slots=True)
class Plan:
    """One product before it is put into words. `attributes` begin with the signature."""

    asin: str
    cluster: Cluster
    brand: str
    noun: str
    attributes: tuple[Phrase, ...]
    in_title: tuple[Phrase, ...]
    in_bullets: tuple[Phrase, ...]  # those in neither place are known from the attributes file alone
    options: tuple[tuple[str, tuple[str, ...]], ...]
    price: float
    num_named: int  # attributes that its synthetic instruction names; 0 if it has none


@lru_cache(maxsize=1024)
def plan_of(seed: int, i: int) -> Plan:
    """Return the plan of product i."""
    draws = Draws(seed, "product", i)
    cluster = find_cluster(seed, i)
    place = i - cluster.first
    num_named = 2 + draws.weighted(_NUM_NAMED) if draws.chance(INSTRUCTED) else 0
    attributes = _attributes(draws, cluster, cluster.signatures[place % len(cluster.signatures)], num_named)
    in_title, in_bullets = _places(draws, attributes, may_hide=num_named > 0)
    is_other = place > 0 and draws.chance(0.1)
    return Plan(
        asin=asin_of(seed, i),
        cluster=cluster,
        brand=draws.one(phrases()["brands"]),
        noun=cluster.kind.other if is_other else cluster.kind.noun,
        attributes=attributes,
        in_title=in_title,
        in_bullets=in_bullets,
        options=tuple((pool.name, _values(draws, pool)) for pool in cluster.groups),
        price=_price(draws, cluster.price),
        num_named=num_named,
    )


def _attributes(draws: Draws, cluster: Cluster, signature: Phrase, at_least: int) -> tuple[Phrase, ...]:
    """Return the signature, most of the core, some extras: at least the number that is asked for.

    Of attributes that exclude each other, such as two kinds of sleeve, the first one stays.
    """
    core = [phrase for phrase in cluster.core if draws.chance(0.8)]
    extras = draws.some(cluster.extras, len(cluster.extras))
    number = 1 + len(core) + draws.below(3)
    chosen: list[Phrase] = []
    taken: set[str] = set()
    for phrase in (signature, *core, *extras):
        last = phrase.text.rpartition(" ")[2]
        if last not in taken:
            chosen.append(phrase)
        if last in _EXCLUSIVE:
            taken.add(last)
    return tuple(chosen[: max(number, at_least)])


def _places(
    draws: Draws, attributes: tuple[Phrase, ...], may_hide: bool
) -> tuple[tuple[Phrase, ...], tuple[Phrase, ...]]:
    """Return the attributes that the title holds, and those that the bullets hold.

    `may_hide`: a few are in neither, because the attributes file lists them all.
    """
    title: list[Phrase] = []
    bullets: list[Phrase] = []
    share = 0.65
    for phrase in attributes:
        place = draws.uniform()
        if place < share and len(title) < _MAX_IN_TITLE:
            title.append(phrase)
        elif place < 0.94 or not may_hide:
            bullets.append(phrase)
        share = 0.45
    return tuple(title), tuple(bullets)


def _values(draws: Draws, pool: OptionPool) -> tuple[str, ...]:
    number = 1 + draws.weighted(_NUM_VALUES)
    if draws.chance(_MANY[0]):
        number = _MANY[1]
    number = min(number, len(pool.values))
    if not pool.ordered:
        return tuple(draws.some(pool.values, number))
    start = draws.below(len(pool.values) - number + 1)
    return pool.values[start : start + number]


def _price(draws: Draws, usual: float) -> float:
    """Return a price in dollars around the usual one of the cluster; one in five is far above it."""
    price = usual * 2.0 ** (0.35 * draws.spread())
    if draws.chance(0.2):
        price *= 1.6 + draws.uniform()
    return max(float(int(price)), 2.0) - (0.01, 0.05, 0.0, 0.51)[draws.below(4)]
