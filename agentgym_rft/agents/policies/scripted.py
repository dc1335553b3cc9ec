"""A policy that answers by a function instead of a model: for rule-based experts and for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentgym_rft.agents.policies.base import Completion, SampleRequest


class ScriptedPolicy:
    """Answers each prompt with the ids that `respond` returns for it, with log-probs 0.

    An answer is cut after `max_new_tokens` ids and after its first stop id, as a model's would be.

    Args:
        respond: from prompt ids to action ids, the end-of-turn id included.
    """

    def __init__(self, respond: Callable[[Sequence[int]], Sequence[int]], *, version: int = 0) -> None:
        self._respond = respond
        self._version = version

    @property
    def version(self) -> int:
        return self._version

    async def sample(self, request: SampleRequest) -> Completion:
        """Return the scripted action. What `respond` raises is raised here."""
        ids = tuple(self._respond(request.prompt_ids))[: request.max_new_tokens]
        end = next((i + 1 for i, token in enumerate(ids) if token in request.stop_ids), None)
        ids = ids[:end]
        return Completion(ids, (0.0,) * len(ids), "length" if end is None else "stop", self._version)

    def release(self, cache_key: str) -> None:
        """Do nothing: nothing is cached."""

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Take over the version; a script has no weights."""
        self._version = version

    def close(self) -> None:
        """Do nothing: nothing is held."""
