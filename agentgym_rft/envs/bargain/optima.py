"""The best divisions of an instance, by looking at all of them (at most 36)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import product

from agentgym_rft.envs.bargain.instances import Amounts, Instance, rest_of, worth

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Optima:
    """The best results that can be reached. A division is what agent_1 gets; agent_2 gets the rest.

    Attributes:
        max_joint: the largest sum of both agents' values.
        best: the division with that sum; of several, the one with the largest product, then with fewest items.
        frontier: the values of all Pareto-optimal divisions, each pair once, from the worst for agent_1 to the best.
        nash: the Nash bargaining solution (J. F. Nash, The Bargaining Problem, Econometrica 18, 1950): the division
            with the largest product of the values, both being worth 0 without a deal; of several, the largest sum, then
            fewest items.
    """

    max_joint: int
    best: Amounts
    frontier: tuple[Pair, ...]
    nash: Amounts


def divisions(counts: Amounts) -> tuple[Amounts, ...]:
    """Return everything that one agent can get, from nothing to all."""
    book, hat, ball = counts
    return tuple(product(range(book + 1), range(hat + 1), range(ball + 1)))


def values_of(instance: Instance, division: Amounts) -> Pair:
    """Return the worth of a division to agent_1 and to agent_2."""
    first, second = instance.values
    return worth(first, division), worth(second, rest_of(instance.counts, division))


@functools.lru_cache(maxsize=4096)
def optima(instance: Instance) -> Optima:
    """Return the best divisions."""
    pairs = {division: values_of(instance, division) for division in divisions(instance.counts)}
    reached = sorted(set(pairs.values()))
    frontier = tuple(pair for pair in reached if not any(dominates(other, pair) for other in reached))

    def product_of(division: Amounts) -> int:
        return pairs[division][0] * pairs[division][1]

    def sum_of(division: Amounts) -> int:
        return sum(pairs[division])

    best = max(pairs, key=lambda d: (sum_of(d), product_of(d), -sum(d)))
    nash = max(pairs, key=lambda d: (product_of(d), sum_of(d), -sum(d)))
    return Optima(sum_of(best), best, frontier, nash)


def dominates(one: Pair, other: Pair) -> bool:
    """Return whether one pair of values is at least as good for both and better for one."""
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def is_pareto_optimal(instance: Instance, division: Amounts) -> bool:
    """Return whether no other division is at least as good for both agents and better for one."""
    return values_of(instance, division) in optima(instance).frontier
