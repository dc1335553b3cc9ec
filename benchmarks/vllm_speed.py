"""Tokens a second of `hf` and `vllm` on the same requests, the time of a weight sync, and that of the start.

    python benchmarks/vllm_speed.py [--requests 32 64] [--policy DIR] [--repeats 3]

Needs vLLM, see docs/vllm.md. The requests are like those of ALFWorld: rows of 120 to 300 tokens with a common start
that grow from turn to turn, answers of 16 tokens at temperature 1.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import describe

from agentgym_rft.agents.policies.base import Policy, SampleRequest
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.seeds import seed_policy_path
from agentgym_rft.agents.policies.vllm import VLLMPolicy
from agentgym_rft.config.policy import VLLMSection

TURNS = 4
NEW_TOKENS = 16


def episode(number: int) -> list[list[int]]:
    """The rows of an episode's turns, without the answers: a common start, then what the environment says."""
    generator = torch.Generator().manual_seed(number)
    opening = [(7 * position) % 400 + 10 for position in range(100)]
    parts = [torch.randint(10, 600, (20 + 10 * turn,), generator=generator).tolist() for turn in range(TURNS)]
    return [opening + parts[0], *parts[1:]]


async def play(policy: Policy, number: int) -> tuple[int, int]:
    """One episode. Returns tokens of prompts and of answers."""
    row: list[int] = []
    num_prompt = num_new = 0
    for turn, part in enumerate(episode(number)):
        row += part
        request = SampleRequest(f"e{number}", row, NEW_TOKENS, (), 1.0, 1000 * number + turn)
        answer = await policy.sample(request)
        num_prompt, num_new = num_prompt + len(part), num_new + len(answer.ids)
        row += answer.ids
    policy.release(f"e{number}")
    return num_prompt, num_new


async def play_all(policy: Policy, num_episodes: int) -> tuple[int, int]:
    counts = await asyncio.gather(*(play(policy, number) for number in range(num_episodes)))
    return sum(prompt for prompt, _ in counts), sum(new for _, new in counts)


def speed(policy: Policy, weights: Any, num_episodes: int, repeats: int) -> tuple[float, float]:
    """Sampled tokens a second, and seconds; the median of some runs, none of which finds its prompts cached."""
    rates = []
    for repeat in range(repeats + 1):  # the first warms up
        policy.load(weights, repeat)
        start = time.perf_counter()
        _, num_new = asyncio.run(play_all(policy, num_episodes))
        rates.append((num_new / (time.perf_counter() - start), time.perf_counter() - start))
    return statistics.median(rate for rate, _ in rates[1:]), statistics.median(seconds for _, seconds in rates[1:])


def sync_time(policy: Policy, weights: Any, repeats: int) -> float:
    times = []
    for version in range(repeats + 1):
        start = time.perf_counter()
        policy.load(weights, version)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def open_vllm(folder: Path, sync: str) -> tuple[VLLMPolicy, float]:
    start = time.perf_counter()
    policy = VLLMPolicy(folder, VLLMSection(sync=sync), max_context=1024, max_concurrency=64)
    return policy, time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--policy", type=Path, default=seed_policy_path())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    model, _ = load_model(options.policy)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    print(describe())
    print(f"{num_parameters / 1e6:.2f} M parameters, {TURNS} turns of {NEW_TOKENS} tokens an episode")
    hf = HFPolicy(model, max_context=1024, max_concurrency=64)
    policies: dict[str, Policy] = {"hf": hf}
    vllm, start_s = open_vllm(options.policy, "memory")
    policies["vllm"] = vllm
    print("| policy | episodes at once | sampled tokens/s | s |\n|---|---|---|---|")
    for num_episodes in options.requests:
        for name, policy in policies.items():
            rate, seconds = speed(policy, weights, num_episodes, options.repeats)
            print(f"| {name} | {num_episodes} | {rate:,.0f} | {seconds:.2f} |", flush=True)
    print("| sync | ms, its probe included |\n|---|---|")
    print(f"| hf, in place | {1e3 * sync_time(hf, weights, 10):.1f} |")
    print(f"| vllm, memory | {1e3 * sync_time(vllm, weights, 10):.1f} |")
    vllm.close()
    on_disk, _ = open_vllm(options.policy, "disk")
    print(f"| vllm, disk | {1e3 * sync_time(on_disk, weights, 10):.1f} |")
    start = time.perf_counter()
    on_disk.close()
    end_s = time.perf_counter() - start
    print(f"start of vllm {start_s:.1f} s, its end {end_s:.1f} s, drift {on_disk.drift.worst:.1e} nats")


if __name__ == "__main__":
    main()
