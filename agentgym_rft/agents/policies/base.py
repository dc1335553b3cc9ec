"""The interface of a policy: token ids in, sampled token ids and log-probs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One action to sample.

    `prompt_ids` is the whole row so far. `cache_key` names the episode: a policy keeps the key-value cache of a row
    under it, and feeds only what the cached row lacks. `seed` is the whole random state of this request, so the sampled
    ids do not depend on what else runs.
    """

    cache_key: str
    prompt_ids: Sequence[int]
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    temperature: float = 1.0  # 0 is greedy
    seed: int = 0
    policy: str = ""  # key of the policy that is to answer, where there are several (`RoutedPolicy`)


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled ids (a stop id, if one was met, included) and their log-probs in nats.

    Log-probs are those of the model's own distribution, at temperature 1, whatever the temperature of sampling.
    `policy_version` is that of the weights that sampled the first token. Where new weights came while it was sampled,
    `last_version` is that of the weights that sampled the last one.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Literal["stop", "length"]
    policy_version: int
    last_version: int | None = None


class Policy(Protocol):
    """A source of actions, shared by many episodes of one event loop."""

    @property
    def version(self) -> int: ...

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample one action. Raises `PolicyError`."""
        ...

    def release(self, cache_key: str) -> None:
        """The episode is over: forget its cache. Unknown keys are fine."""
        ...

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Use these weights from now on, under this version; cached rows of older weights are dropped.

        Raises `PolicyError` if they do not fit, or if a request runs and the policy does not accept weights then.
        """
        ...

    def close(self) -> None:
        """Release what the policy holds outside this object, such as processes."""
        ...
