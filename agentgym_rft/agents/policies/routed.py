"""Several policies behind one: each request names the policy that is to answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.errors import PolicyError

SEPARATOR = "/"


class RoutedPolicy:
    """Policies by key. Those of `trained` get new weights, the others stay as they are.

    Where several are trained, the names of their weights begin with `KEY/`, see `joined_weights`.
    """

    def __init__(self, policies: Mapping[str, Policy], trained: tuple[str, ...]) -> None:
        self._policies = dict(policies)
        self._trained = trained
        self._route: dict[str, Policy] = {}  # of running episodes, by cache key

    @property
    def version(self) -> int:
        """The version of the trained weights."""
        return self._policies[self._trained[0]].version

    def add(self, key: str, policy: Policy) -> None:
        """Add a policy that is not trained. A policy that had the key before is closed."""
        self.remove(key)
        self._policies[key] = policy

    def remove(self, key: str) -> None:
        """Forget a policy, if there is one of that key; none of its episodes may run."""
        if key in self._policies:
            self._policies.pop(key).close()

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample an action of the policy that the request names. Raises `PolicyError`, also for an unknown name."""
        policy = self._policies.get(request.policy)
        if policy is None:
            raise PolicyError(f"There is no policy '{request.policy}' here; expected one of {sorted(self._policies)}.")
        self._route[request.cache_key] = policy
        return await policy.sample(request)

    def release(self, cache_key: str) -> None:
        policy = self._route.pop(cache_key, None)
        if policy is not None:
            policy.release(cache_key)

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Give new weights to the trained policies. Raises `PolicyError` if they do not fit."""
        for key, own in split_weights(weights, self._trained).items():
            self._policies[key].load(own, version)

    def close(self) -> None:
        for policy in self._policies.values():
            policy.close()


def joined_weights(weights: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the weights of all policies in one mapping, the names of each after its key; one policy's as they are."""
    if len(weights) == 1:
        return dict(*weights.values())
    return {f"{key}{SEPARATOR}{name}": value for key, own in weights.items() for name, value in own.items()}


def split_weights(weights: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the weights of each policy: the inverse of `joined_weights`."""
    if len(keys) == 1:
        return {keys[0]: dict(weights)}
    parts: dict[str, dict[str, Any]] = {key: {} for key in keys}
    for name, value in weights.items():
        key, _, own = name.partition(SEPARATOR)
        parts[key][own] = value
    return parts
