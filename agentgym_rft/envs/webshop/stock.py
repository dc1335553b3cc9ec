"""The goals and splits that all environments of one catalogue and protocol share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from agentgym_rft.envs.webshop.catalog import Catalog
from agentgym_rft.envs.webshop.goal_list import GoalRules, Goals
from agentgym_rft.envs.webshop.goals import Pricing
from agentgym_rft.envs.webshop.presets import find_preset
from agentgym_rft.envs.webshop.splits import Indexes, make_splits


@dataclass(frozen=True, slots=True)
class Stock:
    """Goals and the goals of each split. Copies and pickles of it are the same object of the process."""

    catalog: Catalog
    goals: Goals
    indexes: Mapping[str, Indexes]
    preset: str
    seed: int

    def __reduce__(self) -> tuple[object, ...]:
        return open_stock, (self.catalog, self.preset, self.goals.rules.kinds, self.seed)


@lru_cache(maxsize=16)
def open_stock(catalog: Catalog, preset: str, kinds: tuple[str, ...], seed: int) -> Stock:
    """Return the stock of a catalogue under a preset, with goals of these kinds and prices of this seed."""
    protocol = find_preset(preset)
    rules = GoalRules(kinds, protocol.max_variants, Pricing(seed, protocol.cap_per_goal))
    goals = Goals(catalog.store, catalog.table, rules)
    return Stock(catalog, goals, make_splits(protocol.splits, goals, catalog.table), preset, seed)
