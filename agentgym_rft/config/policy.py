"""The sections about the policy that is trained, and how it samples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agentgym_rft.config.base import MAIN, MAX_PROCESSES, MAX_THREADS, Section


class VLLMSection(Section):
    """vLLM's engine; only policies named vllm:DIR read it."""

    sync: Literal["memory", "disk"] = Field("memory", description="how new weights reach the engine")
    sync_dir: str | None = Field(None, description="where sync=disk writes them; default: the temporary directory")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the engine's weights; auto: bfloat16 on CUDA, float32 on a CPU"
    )
    tensor_parallel: int = Field(1, ge=1, le=MAX_PROCESSES, description="devices that share the model")
    gpu_memory: float = Field(0.5, gt=0, le=1, description="share of each GPU's memory for the engine")
    kv_cache_gb: float = Field(1.0, gt=0, description="size of the key-value cache on a CPU, in GiB")
    enforce_eager: bool = Field(True, description="no compilation, no CUDA graphs: a faster start, slower sampling")
    probe_tolerance: float | None = Field(
        None, gt=0, description="nats that the probe after a sync may be off; default: 0.005 float32, 0.25 bfloat16"
    )


class PolicySection(Section):
    path: str = Field("seed", description="'seed' (embedded), seed:NAME, a model directory, or a run; vllm:... too")
    device: str = Field("auto", description="auto (CUDA if present), cpu, cuda, cuda:0 ...", json_schema_extra=MAIN)
    max_concurrency: int = Field(64, ge=1, description="episodes that share one forward pass", json_schema_extra=MAIN)
    max_context: int = Field(
        2048, ge=16, description="tokens in one row before the episode ends with token_limit", json_schema_extra=MAIN
    )
    num_threads: int | None = Field(
        None, ge=1, le=MAX_THREADS, description="torch threads; default: all cores", json_schema_extra=MAIN
    )
    sampling_threads: int | None = Field(
        None, ge=1, le=MAX_THREADS, description="torch threads while sampling; default: num_threads"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the hf policy's weights; auto: bfloat16 on CUDA, in training and on a CPU float32"
    )
    deterministic: bool = Field(
        False, description="what is sampled depends on no other episode, to the last bit; slower, one thread"
    )
    vllm: VLLMSection = VLLMSection()
