"""Policy `vllm`: a model directory served by vLLM's asynchronous engine, token in and token out.

The engine runs on a thread of this process, its model in processes that vLLM starts. New weights are loaded without a
restart. After every load the engine is compared with transformers' forward pass with the same weights.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.support import check_request, context_limit
from agentgym_rft.agents.policies.vllm_engine import Adapter, EngineThread, Sampled
from agentgym_rft.agents.policies.vllm_install import check_head_size, check_vllm
from agentgym_rft.agents.policies.vllm_probe import Drift, ModelReference, Reference, measure_drift, probe_request
from agentgym_rft.agents.policies.vllm_weights import handed_over, merged
from agentgym_rft.config.policy import VLLMSection
from agentgym_rft.errors import ConfigError, PolicyError

_TOLERANCE = {torch.float32: 5e-3, torch.bfloat16: 0.25, torch.float16: 0.1}  # nats
_GIB = 1 << 30
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for


class VLLMPolicy:
    """Samples from a causal LM through vLLM.

    Args:
        model_dir: in Hugging Face format.
        settings: of the engine.
        device: auto, cpu or cuda; it must be the one that the installed vLLM computes on.
        max_concurrency: requests that run at once; further ones wait in the engine.
        max_context: longest row in tokens, prompt and action; by default the model's own limit.
        version: of the weights in `model_dir`.
        spans_versions: allow new weights while requests run. Running requests then continue with the new weights.
        reference: what the engine is compared with after each load; by default transformers' forward pass.
        model: the model of `model_dir`, which the engine is compared with at the start; by default it is loaded.
        max_lora_rank: largest rank, at most 512, of the adapters that `load_adapter` takes; 0: none.
    Raises:
        ConfigError: vLLM is missing, of another version, or of another device; or it cannot serve `max_context`.
        DataError: `model_dir` holds no usable model.
        PolicyError: the engine does not start, or samples from something else than the model.
    """

    def __init__(
        self,
        model_dir: Path,
        settings: VLLMSection | None = None,
        *,
        device: str = "auto",
        max_concurrency: int = 64,
        max_context: int | None = None,
        version: int = 0,
        spans_versions: bool = False,
        reference: Reference | None = None,
        model: Any | None = None,
        max_lora_rank: int = 0,
    ) -> None:
        settings = settings or VLLMSection()
        kind = _check_device(check_vllm(), device)
        dtype = _dtype(settings.dtype, kind)
        if model is None:
            model, _ = load_model(model_dir, device="cpu", dtype=dtype)
        if kind == "cpu":
            check_head_size(model.config)
        self._settings, self._model_dir, self._dtype = settings, model_dir, dtype
        self._max_lora_rank = max_lora_rank
        self._max_context = context_limit(model.config, max_context)
        self._vocab_size: int = model.get_input_embeddings().num_embeddings
        self._spans_versions = spans_versions
        self._version = version
        self._shape = ModelReference(model)
        self._reference = reference or self._shape
        self._tolerance = settings.probe_tolerance or _TOLERANCE[dtype]
        self._running: dict[str, Future[Sampled]] = {}  # by cache key
        self._released: set[Future[Sampled]] = set()
        self._fault: str | None = None
        self._adapter: Adapter | None = None
        self._num_adapters = 0
        self._is_base = True  # the engine has the weights of `model_dir`
        self._lock = threading.Lock()  # one load at a time
        self._drift = Drift(0.0, 0.0)
        self._engine = EngineThread(self._arguments(kind, max_concurrency), version)
        try:
            self._probe({name: tensor.to(dtype) for name, tensor in model.state_dict().items()})
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> int:
        return self._version

    @property
    def max_context(self) -> int:
        """Longest row in tokens, prompt and action together."""
        return self._max_context

    @property
    def drift(self) -> Drift:
        """The result of the check after the last load."""
        return self._drift

    async def sample(self, request: SampleRequest) -> Completion:
        """Sample one action; any event loop may call.

        Raises:
            PolicyError: the request is not valid, the row would be longer than `max_context`, another request of the
                same `cache_key` runs, the key is released meanwhile, the engine fails, or the last load failed.
        """
        self._check(request)
        key, adapter = request.cache_key, self._adapter
        future = self._engine.submit(lambda: self._engine.generate(request, adapter))
        self._running[key] = future
        try:
            sampled = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future in self._released:
                raise PolicyError(f"'{key}' was released while it was sampling.") from None
            raise
        except Exception as error:  # whatever vLLM raises, for this request or because the engine died
            raise _as_policy_error(key, error) from error
        finally:
            self._released.discard(future)
            if self._running.get(key) is future:
                del self._running[key]
        if self._fault is not None:
            raise PolicyError(self._fault)
        return _completion(key, sampled, adapter)

    def release(self, cache_key: str) -> None:
        """A request of that episode which still runs gets a `PolicyError`. vLLM's prefix cache forgets by itself."""
        future = self._running.pop(cache_key, None)
        if future is not None:
            self._released.add(future)
            future.cancel()

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Sample from these weights from now on; the engine's caches of older ones are dropped.

        Every parameter must be given (one name is enough for tied ones); nothing changes if any is wrong. An adapter
        that was in use is taken off.

        Raises:
            PolicyError: a request runs and the policy was not made with `spans_versions`; names or shapes differ; the
                weights do not reach the engine; or it does not sample from them afterwards. In the last two cases
                the policy refuses to sample until another `load` succeeds.
        """
        with self._lock:
            self._refuse_running()
            kept = {name: tensor.detach().to(self._dtype) for name, tensor in self._shape.distinct(weights).items()}
            with handed_over(kept, self._settings.sync, self._settings.sync_dir) as path:
                try:
                    missing = self._engine.call(lambda: self._engine.replace_weights(path, version))
                except Exception as error:  # from vLLM's processes; the weights may be loaded in part
                    self._fault = f"vLLM did not take the weights of version {version}: {error}"
                    raise PolicyError(self._fault) from error
            if missing:
                self._fault = f"vLLM did not fill {', '.join(missing[:3])} from the weights of version {version}."
                raise PolicyError(self._fault)
            self._adapter, self._is_base, self._version = None, False, version
            self._probe(kept)

    def load_adapter(self, path: Path, version: int) -> None:
        """Sample with this LoRA adapter (a directory of peft) on the model directory's own weights from now on.

        Requests that run end under the adapter that they began with.

        Raises:
            ConfigError: the policy was made with `max_lora_rank` 0.
            DataError: there is no plain LoRA adapter of this model.
            PolicyError: `load` has replaced the weights that it belongs to; or the engine does not sample from it.
        """
        if not self._max_lora_rank:
            raise ConfigError("The policy serves no adapters. Give VLLMPolicy their rank as max_lora_rank.")
        if not self._is_base:
            raise PolicyError("The adapter belongs to the weights of the model directory, which `load` has replaced.")
        with self._lock:
            base, _ = load_model(self._model_dir, device="cpu", dtype=self._dtype)
            weights = merged(base.state_dict(), path)
            self._num_adapters += 1
            before = self._adapter
            self._adapter, self._version = Adapter(self._num_adapters, path, version), version
            self._probe(weights)
            if before is not None and not self._running:
                self._engine.call(lambda: self._engine.forget_adapter(before))

    def close(self) -> None:
        """End vLLM and its processes."""
        for key in list(self._running):
            self.release(key)
        self._engine.close()

    def _arguments(self, kind: str, max_concurrency: int) -> dict[str, Any]:
        settings = self._settings
        arguments: dict[str, Any] = {
            "model": str(self._model_dir),
            "skip_tokenizer_init": True,
            "use_tqdm_on_load": False,
            "dtype": str(self._dtype).removeprefix("torch."),
            "max_model_len": self._max_context,
            "max_num_seqs": max_concurrency,
            "enable_prefix_caching": True,
            "enforce_eager": settings.enforce_eager,
            "tensor_parallel_size": settings.tensor_parallel,
            "generation_config": "vllm",  # nothing of the model's generation_config.json
            "logprobs_mode": "raw_logprobs",  # the model's own, before temperature
            "disable_log_stats": True,
            "enable_log_requests": False,
            "seed": 0,  # unused: every request has its own
        }
        if self._max_lora_rank:
            arguments |= {"enable_lora": True, "max_lora_rank": _room(self._max_lora_rank), "max_loras": 2}
        if kind == "cuda":
            return arguments | {"gpu_memory_utilization": settings.gpu_memory}
        # With chunked prefill a seeded request whose prompt is cut kills vLLM 0.32's CPU worker: torch's CPU generator
        # cannot be set back.
        whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(self._max_context, 2048)}
        return arguments | whole | {"kv_cache_memory_bytes": int(settings.kv_cache_gb * _GIB)}

    def _check(self, request: SampleRequest) -> None:
        if self._fault is not None:
            raise PolicyError(self._fault)
        check_request(request, self._max_context, self._vocab_size)
        if request.cache_key in self._running:
            raise PolicyError(f"'{request.cache_key}' is already sampling; an episode can have one request at a time.")

    def _refuse_running(self) -> None:
        if self._running and not self._spans_versions:
            raise PolicyError(
                f"Cannot load weights while {len(self._running)} requests are sampling; await them first."
            )

    def _probe(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Compare a greedy answer of the engine with the reference; sets `drift` and `_fault`."""
        request = probe_request(f"probe-{self._version}", self._vocab_size, self._max_context)
        adapter = self._adapter
        try:
            sampled = self._engine.call(lambda: self._engine.generate(request, adapter))
            self._fault = None
            answer = _completion(request.cache_key, sampled, adapter)
        except Exception as error:  # a dead engine, or one that gives no distribution
            self._fault = str(_as_policy_error(request.cache_key, error))
            raise PolicyError(self._fault) from error
        self._drift = measure_drift(self._reference, weights, request, answer)
        if not self._drift.worst <= self._tolerance:
            self._fault = (
                f"vLLM does not sample from the weights of version {self._version}: on a probe its log-probs differ by "
                f"{self._drift.logprob:.2g} nats from those of transformers, and its greedy tokens are "
                f"{self._drift.greedy:.2g} nats below the best; policy.vllm.probe_tolerance is {self._tolerance:g}."
            )
            raise PolicyError(self._fault)


def _completion(key: str, sampled: Sampled, adapter: Adapter | None) -> Completion:
    if not all(map(math.isfinite, sampled.logprobs)):
        raise PolicyError(
            f"The model's logits for '{key}' are not finite (version and weights of the last `load` are at fault, or "
            "the learning rate that made them)."
        )
    first, last = sampled.versions[0], sampled.versions[-1]
    if adapter is not None:
        first = last = adapter.version
    return Completion(sampled.ids, sampled.logprobs, sampled.stop, first, None if last == first else last)


def _as_policy_error(key: str, error: Exception) -> PolicyError:
    if isinstance(error, PolicyError):
        return error
    if isinstance(error, CancelledError):
        return PolicyError(f"'{key}' was cancelled: the engine is closed.")
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return PolicyError(f"vLLM failed on '{key}': {type(error).__name__}: {text}")


def _check_device(kind: str, device: str) -> str:
    """Return the kind of device, if it is the one asked for. Raises `ConfigError`."""
    wanted = device.partition(":")[0]
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted != kind:
        raise ConfigError(
            f"policy.device is '{device}', but the installed vLLM computes on {kind}. Set policy.device={kind}, or "
            "install the other vLLM, see docs/vllm.md."
        )
    return kind


def _room(rank: int) -> int:
    """Return the smallest of vLLM's sizes that holds a LoRA rank."""
    return next(room for room in _RANKS if room >= rank)


def _dtype(name: str, kind: str) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if kind == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
