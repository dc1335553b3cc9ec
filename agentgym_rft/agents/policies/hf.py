"""Policy `hf`: any Hugging Face causal LM in this process, on CPU or one GPU, sampling for many episodes at once.

There is no barrier between turns. A task in the caller's event loop runs one forward pass after another. Each pass
feeds the new prompt tokens of some rows together with one token for every row that generates. Then the episodes whose
action is complete step their environments, and their next requests join the next pass. There are no threads, so one
seed gives one run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.engine import Engine, Row, new_row
from agentgym_rft.agents.policies.ragged import RaggedModel
from agentgym_rft.agents.policies.support import check_model, check_request, context_limit
from agentgym_rft.agents.policies.weights import copy_weights
from agentgym_rft.errors import PolicyError

_STEP_TOKENS_CPU = 512  # more makes activations outgrow the CPU's caches
_STEP_TOKENS_GPU = 8192
_MAX_YIELDS = 5  # turns of the event loop an episode may need to come back, `asyncio.wait_for` around it included


class HFPolicy:
    """Samples from a causal LM with one cached row for each episode.

    The policy puts the model in evaluation mode whenever it starts to sample. Keep `max_concurrency` at or above the
    number of episodes that run at once: with fewer slots than episodes it stays correct, but rows that lost their
    slot are fed again.

    Args:
        model: a transformers causal LM. Its attention must go through `ALL_ATTENTION_FUNCTIONS`; models that also
            keep another state than keys and values (Mamba, RWKV) or other attention biases are refused.
        device: where to move the model; by default it stays.
        max_concurrency: rows that run at once, and slots of the cache. Further requests wait.
        max_context: longest row in tokens, prompt and action; by default the model's own limit.
        version: of the weights that the model has now.
        num_threads: torch threads while it samples; by default as many as torch has. With passive OpenMP
            threads a small model is faster with one.
        spans_versions: allow new weights while requests run. Running rows are then fed again and continue with the
            new weights.
        is_invariant: make a completion depend on weights and request alone, bit for bit, whatever else is in the
            batch. Sampling then uses one thread, whatever `num_threads` says.
    Raises:
        PolicyError: this sampler cannot serve the model, or cannot make it invariant.
        ConfigError: the model cannot take rows of `max_context` tokens.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: torch.device | str | None = None,
        max_concurrency: int = 64,
        max_context: int | None = None,
        version: int = 0,
        num_threads: int | None = None,
        spans_versions: bool = False,
        is_invariant: bool = False,
    ) -> None:
        if max_concurrency < 1:
            raise PolicyError(f"max_concurrency is {max_concurrency}; expected at least 1.")
        self._model = model if device is None else model.to(device)
        self._max_context = context_limit(model.config, max_context)
        self._vocab_size: int = model.get_input_embeddings().num_embeddings
        self._spans_versions = spans_versions
        self._num_threads = 1 if is_invariant else num_threads
        ragged = RaggedModel(self._model, is_invariant=is_invariant)
        self._model.eval()
        with _threads(self._num_threads):
            check_model(ragged, self._max_context)
        step_tokens = _STEP_TOKENS_CPU if ragged.device.type == "cpu" else _STEP_TOKENS_GPU
        self._engine = Engine(ragged, max_concurrency, step_tokens)
        self._engine.version = version
        self._futures: dict[str, tuple[Row, asyncio.Future[Completion]]] = {}  # by cache key
        self._task: asyncio.Task[None] | None = None
        self._num_tasks = 0
        self._num_arrived = 0

    @property
    def version(self) -> int:
        return self._engine.version

    @property
    def max_context(self) -> int:
        """Longest row in tokens, prompt and action together."""
        return self._max_context

    @property
    def num_cached(self) -> int:
        """Episodes whose row is cached now."""
        return self._engine.num_cached

    @property
    def num_forward_tokens(self) -> int:
        """Tokens fed to the model so far, those of prompts included."""
        return self._engine.num_forward_tokens

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample one action.

        Raises:
            PolicyError: the request is not valid, the row would be longer than `max_context`, another request of the
                same `cache_key` runs, the key is released meanwhile, or the model fails.
        """
        self._check(request)
        loop = asyncio.get_running_loop()
        self._attach(loop)
        key, row = request.cache_key, new_row(request)
        future: asyncio.Future[Completion] = loop.create_future()
        self._futures[key] = (row, future)
        self._engine.add(row)
        self._num_arrived += 1
        try:
            return await future
        finally:
            if (key, (row, future)) in self._futures.items():  # still there: the caller was cancelled
                del self._futures[key]
                self._engine.discard(row)

    def release(self, cache_key: str) -> None:
        """Forget the episode's cached row. A request of that episode which still runs gets a `PolicyError`."""
        if cache_key in self._futures:
            row, future = self._futures.pop(cache_key)
            self._engine.discard(row)
            _fail(future, f"'{cache_key}' was released while it was sampling.")
        self._engine.release(cache_key)

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Copy the weights into the model in place and drop all cached rows.

        Every parameter must be given (one name is enough for tied ones); nothing is copied if anything is wrong.

        Raises:
            PolicyError: a request runs or waits, whose action would mix two versions, and the policy was not made with
                `spans_versions`; or names or shapes differ.
        """
        if self._futures and not self._spans_versions:
            raise PolicyError(
                f"Cannot load weights while {len(self._futures)} requests are sampling; await them first."
            )
        copy_weights(self._model, weights)
        self._engine.renew(version)

    def close(self) -> None:
        """Do nothing: nothing is held outside this object."""

    def _check(self, request: SampleRequest) -> None:
        check_request(request, self._max_context, self._vocab_size)
        key = request.cache_key
        if key in self._futures:
            raise PolicyError(f"'{key}' is already sampling; an episode can have one request at a time.")

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make sure that the sampling task runs in this event loop."""
        if self._task is not None and not self._task.done():
            if self._task.get_loop() is loop:
                return
            self._abandon("The event loop that it was sampling in was left.")
        self._model.eval()
        self._num_tasks += 1
        self._task = loop.create_task(self._run(self._num_tasks))

    async def _run(self, number: int) -> None:
        """Steps until nothing runs or waits. `number` tells this task from a later one in another event loop."""
        try:
            await asyncio.sleep(0)  # let the episodes that start together arrive before the first pass
            while self._engine.is_busy:
                num_before = self._num_arrived
                with _threads(self._num_threads):
                    ended = self._engine.step()
                num_ended = self._resolve(ended)
                await asyncio.sleep(0)
                for _ in range(_MAX_YIELDS - 1):
                    if self._num_arrived - num_before >= num_ended:
                        break
                    await asyncio.sleep(0)
        except RuntimeError as error:  # torch's errors, out of memory included; they do not say which row caused them
            self._abandon(f"The model failed while sampling: {error}")
        finally:
            if self._futures and number == self._num_tasks:
                self._abandon("The sampling task ended early.")

    def _resolve(self, ended: list[Row]) -> int:
        """Hand the finished rows to their callers; returns how many."""
        for row in ended:
            _, future = self._futures.pop(row.request.cache_key)
            if future.done():  # the caller was cancelled in this very turn of the loop
                continue
            if row.error is not None:
                future.set_exception(row.error)
            elif row.stop is not None:
                future.set_result(self._completion(row, row.stop))
        return len(ended)

    def _completion(self, row: Row, stop: Literal["stop", "length"]) -> Completion:
        first, last = row.version, self.version
        assert first is not None, "a row that ended has sampled"
        return Completion(tuple(row.ids), tuple(row.logprobs), stop, first, None if last == first else last)

    def _abandon(self, reason: str) -> None:
        """Fails all requests and starts over with an empty cache."""
        futures = [future for _, future in self._futures.values()]
        self._futures.clear()
        self._engine.forget()
        self._task = None
        for future in futures:
            _fail(future, reason)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let torch compute with so many threads inside; None changes nothing."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number is not None:
            torch.set_num_threads(before)


def _fail(future: asyncio.Future[Completion], reason: str) -> None:
    if not future.done() and not future.get_loop().is_closed():
        future.set_exception(PolicyError(reason))
