"""Divides generated tasks into splits by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from agentgym_rft.envs.base import TRAIN_AND_TEST
from agentgym_rft.errors import ConfigError

_MAX_CANDIDATES = 200_000


def in_test(content: bytes, one_in: int) -> bool:
    """Return True for about one content in `one_in`: those belong to the test split, wherever they are generated.

    It is a function of the content alone, so splits made by it share nothing.
    """
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % one_in == 0


def distinct_seeds(content: Callable[[int], bytes], sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the first seeds 0, 1, ... of distinct contents, `sizes["train"]` and `sizes["test"]` of them.

    Raises `ConfigError` where there are not so many contents.
    """
    one_in = sum(sizes.values()) // sizes["test"]
    found: dict[str, list[int]] = {split: [] for split in TRAIN_AND_TEST}
    known: set[bytes] = set()
    for seed in range(_MAX_CANDIDATES):
        made = content(seed)
        if made in known:
            continue
        known.add(made)
        seeds = found["test" if in_test(made, one_in) else "train"]
        if len(seeds) < sizes["test" if seeds is found["test"] else "train"]:
            seeds.append(seed)
        elif all(len(found[split]) == sizes[split] for split in TRAIN_AND_TEST):
            return {split: tuple(seeds) for split, seeds in found.items()}
    raise ConfigError(
        f"There are only {len(known)} different tasks with these options, too few for splits of {dict(sizes)}; "
        "choose options with more variety."
    )
