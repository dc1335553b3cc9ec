"""Runs vLLM's asynchronous engine in a thread with its own event loop, for callers on any other loop or on none."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, TypeVar

from agentgym_rft.agents.policies.base import SampleRequest
from agentgym_rft.agents.policies.vllm_worker_names import LOAD, OWNER, PID, WORKER
from agentgym_rft.errors import PolicyError

T = TypeVar("T")
_SHUTDOWN_S = 4.0  # vLLM's processes have nothing to save; those that take longer are killed
_MASK = (1 << 63) - 1
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing is reported to anybody
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "1",
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter in a directory. `number` is new for each that is given to an engine."""

    number: int
    path: Path
    version: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """The result of a request.

    `versions` are the weights' versions that sampled its tokens, from the first to the last.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Literal["stop", "length"]
    versions: tuple[int, ...]


class EngineThread:
    """A running engine with its processes.

    Args:
        arguments: of vLLM's `AsyncEngineArgs`.
        version: label of the weights that it loads from disk.
    Raises:
        PolicyError: the engine does not start.
    """

    def __init__(self, arguments: Mapping[str, Any], version: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="vllm", daemon=True)
        self._count = 0
        self._engine: Any = None
        self._workers: list[int] = []  # file descriptors of vLLM's worker processes
        self._cores: list[BaseProcess] = []  # the processes between this one and them
        self._thread.start()
        try:
            self.call(lambda: self._open(arguments, version))
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                raise PolicyError(f"vLLM's engine does not start: {_first_line(error)}") from error
            raise

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the engine's loop and return its result."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Begin a coroutine on the engine's loop; cancelling its future cancels it.

        Raises `PolicyError` once closed.
        """
        if self._loop.is_closed():
            raise PolicyError("The policy is closed: vLLM's engine has ended.")
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    async def generate(self, request: SampleRequest, adapter: Adapter | None) -> Sampled:
        """Sample one action; runs on the engine's loop. If it is cancelled, the engine forgets the request."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            max_tokens=request.max_new_tokens,
            temperature=request.temperature,
            seed=request.seed & _MASK,
            stop_token_ids=list(request.stop_ids),
            ignore_eos=True,  # only the given ids end an action
            logprobs=0,  # of the sampled id only
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        lora = None if adapter is None else LoRARequest(f"v{adapter.version}", adapter.number, str(adapter.path))
        self._count += 1
        prompt = TokensPrompt(prompt_token_ids=list(request.prompt_ids))
        last = None
        async for output in self._engine.generate(
            prompt, params, f"{request.cache_key}#{self._count}", lora_request=lora
        ):
            last = output
        if last is None or not last.finished:
            raise PolicyError(f"vLLM ended '{request.cache_key}' without an answer.")
        return _sampled(last.outputs[0])

    async def replace_weights(self, path: Path, version: int) -> list[str]:
        """Load a safetensors file between two steps of generation. Returns the parameters that it lacked.

        Running requests continue with the new weights: their tokens are fed again. Older caches are dropped.
        """
        await self._engine.pause_generation(mode="keep", clear_cache=True)
        try:
            missing = await self._engine.collective_rpc(LOAD, args=(str(path),))
            await self._engine.update_weight_version(str(version))
        finally:
            await self._engine.resume_generation()
        return sorted({name for names in missing for name in names})

    async def forget_adapter(self, adapter: Adapter) -> None:
        """Take an adapter out of the engine's memory."""
        await self._engine.remove_lora(adapter.number)

    def close(self) -> None:
        """End the engine, its processes and the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _serve(self) -> None:
        # Ctrl-C in a terminal reaches the whole process group, and a run that finishes its step first still needs the
        # engine. So it is blocked here: child processes inherit the mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self, arguments: Mapping[str, Any], version: int) -> None:
        before = multiprocessing.active_children()
        with _environment({**_ENVIRONMENT, OWNER: str(os.getpid())}):
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(worker_extension_cls=WORKER, **arguments))
        self._cores = [
            p for p in multiprocessing.active_children() if p not in before and p.name.startswith("EngineCore")
        ]
        self._workers = [os.pidfd_open(pid) for pid in await self._engine.collective_rpc(PID) if pid != os.getpid()]
        await self._engine.update_weight_version(str(version))

    async def _shut_down(self) -> None:
        if self._engine is not None:
            self._engine.shutdown(timeout=_SHUTDOWN_S)
            self._engine = None
        for worker in self._workers:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker, signal.SIGKILL)
            select.select([worker], [], [])  # readable when the process has ended
            os.close(worker)
        for core in self._cores:
            core.kill()
            core.join()
        self._workers, self._cores = [], []
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _sampled(output: Any) -> Sampled:
    ids = tuple(output.token_ids)
    logprobs = tuple(float(entry[token].logprob) for token, entry in zip(ids, output.logprobs, strict=True))
    stop: Literal["stop", "length"] = "stop" if output.finish_reason == "stop" else "length"
    return Sampled(ids, logprobs, stop, tuple(int(span.version) for span in output.weight_versions))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set these environment variables while the block runs, unless the user has set them. Undo what vLLM sets."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in values.items() if name not in before or name == OWNER})
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


def _first_line(error: BaseException) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"
