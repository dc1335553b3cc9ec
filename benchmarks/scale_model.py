"""A small model of throughput: what workers can do, what the driver can do, and what a policy on GPUs asks of them.

Workers play side by side, each one environment step after another; the driver (one core of one process) handles what
comes back. Steps a second are at most

    workers:  N / (environment's step + worker's cost of a turn)
    driver:   1 / (cost of a turn + cost of an episode / turns of an episode)

and the smaller of the two is the limit. The policy is left out: it is the third limit, see `seven_billion_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TURNS = 20  # of an episode
STEP_MS = (1, 5, 200)  # of an environment: a text game, a simulator, a web page
MANY_WORKERS = (8, 64, 1000)


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds."""

    episode_us: float  # driver
    turn_us: float  # driver
    worker_us: float  # worker, a turn, beside the environment

    @property
    def driver_rate(self) -> float:
        """Steps a second."""
        return 1e6 / (self.turn_us + self.episode_us / TURNS)

    def workers_rate(self, num_workers: int, step_ms: float) -> float:
        """Steps a second, each worker on a core of its own."""
        return num_workers / (step_ms * 1e-3 + self.worker_us * 1e-6)


def limits_table(costs: Mapping[str, Costs]) -> list[str]:
    """Markdown lines."""
    head = " | ".join(f"{ms} ms: workers, driver" for ms in STEP_MS)
    lines = [f"| workers | {head} |", "|---|" + "---:|" * len(STEP_MS)]
    for way, cost in costs.items():
        for number in MANY_WORKERS:
            cells = []
            for step_ms in STEP_MS:
                ours, driver = cost.workers_rate(number, step_ms), cost.driver_rate
                texts = [f"{ours:,.0f}", f"{driver:,.0f}"]
                texts[ours > driver] = f"**{texts[ours > driver]}**"
                cells.append(", ".join(texts))
            lines.append(f"| {number:,} {way} | " + " | ".join(cells) + " |")
    return lines


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU, and how much of its data sheet is reached. Source: NVIDIA H100 SXM data sheet; the shares are assumed."""

    flops: float = 989e12  # bfloat16, dense
    bytes_per_s: float = 3.35e12
    flops_share: float = 0.4
    bytes_share: float = 0.6


@dataclass(frozen=True, slots=True)
class Model:
    """A policy. Source: the model card and config.json of Qwen2.5-7B-Instruct."""

    parameters: float = 7.6e9
    layers: int = 28
    kv_heads: int = 4
    head_dim: int = 128

    @property
    def cache_bytes(self) -> int:
        """Of one token: keys and values in bfloat16."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Load:
    """Assumed: what the episodes are like, and how eight GPUs are shared."""

    sampled: int = 50  # tokens a turn
    observed: int = 150  # tokens a turn
    at_once: int = 128  # episodes on one sampling GPU
    context: int = 2048  # tokens in the cache of one, on average
    sampling_gpus: int = 4
    training_gpus: int = 4
    passes: float = 8 / 6  # of a forward and backward pass: old log-probs are computed, too


def sampling_turns(gpu: Machine, model: Model, load: Load) -> float:
    """Turns a second that the sampling GPUs give: reading weights and caches for each token, and the prefill."""
    read = 2 * model.parameters + load.at_once * load.context * model.cache_bytes
    token_s = read / (gpu.bytes_per_s * gpu.bytes_share) / load.at_once
    prefill_s = load.observed * 2 * model.parameters / (gpu.flops * gpu.flops_share)
    return load.sampling_gpus / (load.sampled * token_s + prefill_s)


def training_turns(gpu: Machine, model: Model, load: Load) -> float:
    """Turns a second that the training GPUs take: 6 operations a parameter and token, and another forward pass."""
    tokens = load.sampled + load.observed
    return load.training_gpus * gpu.flops * gpu.flops_share / (6 * load.passes * model.parameters * tokens)


def seven_billion_table(costs: Mapping[str, Costs]) -> list[str]:
    """Markdown lines: turns a second, and what they need of workers and driver."""
    gpu, model, load = Machine(), Model(), Load()
    sampled, trained = sampling_turns(gpu, model, load), training_turns(gpu, model, load)
    lines = [
        f"| sampling, {load.sampling_gpus} GPUs | {sampled:,.0f} turns/s |",
        f"| training, {load.training_gpus} GPUs | {trained:,.0f} turns/s |",
    ]
    turns = min(sampled, trained)
    for step_ms in STEP_MS:
        cost = costs["ray"]
        needed = turns / cost.workers_rate(1, step_ms)
        lines.append(f"| workers for {turns:,.0f} steps/s of {step_ms} ms | {needed:,.1f} |")
    for way, cost in costs.items():
        lines.append(f"| share of one driver core, {way} | {turns / cost.driver_rate:.1%} |")
    return ["| what | model |", "|---|---:|", *lines]
