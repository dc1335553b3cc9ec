"""The registry of algorithms, and what can be put around any of them.

Compositions live in `grpo.py` and its siblings by kind; the package imports them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.registry.plugins import Plugin, PluginRegistry
from agentgym_rft.trainers.algorithms.advantage_transforms import behaviour_weight
from agentgym_rft.trainers.algorithms.base import Algorithm

Compose = Callable[[AlgorithmSection, Any], Algorithm]

ALGORITHMS: PluginRegistry[Compose] = PluginRegistry(
    "Algorithm", "agentgym_rft.algorithms", ("section", "options"), Algorithm
)


def register_algorithm(name: str, options: type[Options] = Options) -> Callable[[Compose], Compose]:
    """Return a decorator that registers a composition: a function of the configuration's section and its options.

    Raises `RegistryError` for a name that is taken.
    """
    return ALGORITHMS.decorator(name, lambda compose: Plugin(compose, options))


def weigh_behaviour(algorithm: Algorithm, cap: float | None) -> Algorithm:
    """Return the algorithm with `algorithm.behaviour_cap`: losses times the truncated weight old policy / sampler.

    It is taken over the unit of the importance ratio. Raises `ConfigError` if the ratio is to the sampler already.
    """
    if cap is None:
        return algorithm
    if algorithm.ratio.anchor == "behaviour_logprobs":
        raise ConfigError(
            f"algorithm.behaviour_cap is {cap}, but the ratio of '{algorithm.name}' is to the sampler's policy: "
            "set algorithm.options.anchor=old."
        )
    return replace(
        algorithm, advantage_transforms=(*algorithm.advantage_transforms, behaviour_weight(cap, algorithm.ratio.unit))
    )
