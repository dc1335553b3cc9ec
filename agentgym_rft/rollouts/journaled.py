"""A policy that writes its completions to a journal, so that a killed run can continue in the middle of its episodes.

After a resume the episodes of the unfinished batch begin again with the same seeds. Each request is answered from the
journal, without a forward pass, so the environments see the same actions again. Where the journal ends, the policy
samples. Retries, reflections, forks and evaluations are resumed in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.store.journal import Journal, request_digest, weights_digest


class JournaledPolicy:
    """Wraps a policy and keeps a journal of its completions from `begin` on.

    An episode whose request differs from the recorded one has diverged: the rest of its record is dropped, and the
    policy samples again.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._num_replayed = 0  # recorded completions that were asked for again
        self._num_diverged = 0  # those that were dropped
        self._journal: Journal | None = None
        self._weights = ""  # digest of the weights that were loaded last; "" until the first load

    @property
    def version(self) -> int:
        return self._policy.version

    def begin(self, folder: Path, step: int, *, is_new: bool) -> int:
        """Record in a folder from now on and read what it holds, see `Journal`.

        Returns the number of recorded completions.
        """
        self._journal = Journal(folder, step, is_new=is_new)
        return self._journal.num_recorded

    def checkpointed(self, step: int, keep: int) -> None:
        """A checkpoint of a step is on disk, see `Journal.checkpointed`."""
        if self._journal is not None:
            self._journal.checkpointed(step, keep)

    def take_counts(self) -> dict[str, float]:
        """Metrics since the last call: recorded completions that were taken, and dropped. Empty if there were none."""
        counts = {"resume/replayed": float(self._num_replayed), "resume/diverged": float(self._num_diverged)}
        self._num_replayed = self._num_diverged = 0
        return counts if any(counts.values()) else {}

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample one action, or take the recorded one. Raises what the policy raises."""
        journal = self._journal
        if journal is None:
            return await self._policy.sample(request)
        digest = request_digest(request, self._weights)
        recorded = journal.recorded.get((request.cache_key, self.version), {})
        if digest in recorded:
            self._num_replayed += 1
            return recorded.pop(digest)
        self._drop(request.cache_key)
        completion = await self._policy.sample(request)
        if completion.last_version is None:
            journal.append(request.cache_key, digest, completion)
        return completion

    def release(self, cache_key: str) -> None:
        """The episode is over: forget its cache, and what was recorded of it and not asked for."""
        self._policy.release(cache_key)
        self._drop(cache_key)

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Use these weights from now on. Raises `PolicyError`."""
        self._policy.load(weights, version)
        self._weights = weights_digest(weights)

    def close(self) -> None:
        """Close the journal and the policy."""
        if self._journal is not None:
            self._journal.close()
        self._policy.close()

    def _drop(self, key: str) -> None:
        if self._journal is not None:
            self._num_diverged += len(self._journal.recorded.pop((key, self.version), {}))
