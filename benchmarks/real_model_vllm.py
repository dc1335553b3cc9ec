"""The same weights sampled by `hf` and by vLLM: greedy tokens, log-probs, and sampled tokens a second.

Needs vLLM, see docs/vllm.md. The prompts are those of demonstrations in generated ALFWorld games, turn by turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from machine import describe

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.vllm import VLLMPolicy
from agentgym_rft.config.policy import VLLMSection
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.envs.making import make_env
from agentgym_rft.trainers.sft.demonstrations import demonstrations, sft_agents

NEW_TOKENS = 16
MAX_CONTEXT = 2048
TURNS = 6

Turns = list[tuple[int, ...]]  # what each turn of an episode adds to its row, without the answer


def prompts(tokenizer: Any, number: int) -> list[Turns]:
    """Return the first turns of so many demonstrations."""
    config = SftConfig.model_validate({"env": {"split": "train", "options": {"admissible": False}}})
    env = make_env(config.env.id, config.env.options)
    agents = sft_agents(config, env, load_card(config.agent), tokenizer)
    stream = demonstrations(env, agents, split="train", seed=0, section=config.sft)
    return [[turn.context_ids for turn in episode.turns[:TURNS]] for episode in islice(stream, number)]


async def play(policy: Policy, name: str, turns: Turns, temperature: float) -> list[Completion]:
    """Answer each turn in one growing row; the next turn follows what was sampled."""
    row: list[int] = []
    answers = []
    for number, added in enumerate(turns):
        row += added
        request = SampleRequest(name, tuple(row), NEW_TOKENS, (), temperature, number)
        answers.append(await policy.sample(request))
        row += answers[-1].ids
    policy.release(name)
    return answers


async def play_all(policy: Policy, episodes: Sequence[Turns], temperature: float) -> list[Completion]:
    played = await asyncio.gather(*(play(policy, f"e{n}", turns, temperature) for n, turns in enumerate(episodes)))
    return [answer for answers in played for answer in answers]


def differences(one: Sequence[Completion], other: Sequence[Completion]) -> dict[str, float]:
    """Return the share of equal greedy tokens and the largest difference of a log-prob among answers that are equal."""
    pairs = list(zip(one, other, strict=True))
    equal = sum(a == b for x, y in pairs for a, b in zip(x.ids, y.ids, strict=False))
    same = [(x, y) for x, y in pairs if x.ids == y.ids]
    gaps = [abs(a - b) for x, y in same for a, b in zip(x.logprobs, y.logprobs, strict=True)]
    return {
        "tokens": sum(len(x.ids) for x, _ in pairs),
        "tokens_equal": equal,
        "answers": len(pairs),
        "answers_equal": len(same),
        "logprob_max_difference": max(gaps, default=float("nan")),
    }


def rate(policy: Policy, weights: Any, episodes: Sequence[Turns], version: int) -> float:
    """Sampled tokens a second, of wall-clock time, with nothing cached before."""
    policy.load(weights, version)
    start = time.perf_counter()
    answers = asyncio.run(play_all(policy, episodes, 1.0))
    return sum(len(answer.ids) for answer in answers) / (time.perf_counter() - start)


def compare(folder: Path, sizes: Sequence[int] = (16, 32)) -> dict[str, Any]:
    """Return all that is measured; float32 on both sides, and bfloat16 for the speed of both."""
    model, tokenizer = load_model(folder, dtype=torch.float32)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    episodes = prompts(tokenizer, max(sizes))
    result: dict[str, Any] = {"machine": describe(), "model": folder.name, "speed": []}
    for dtype in ("float32", "bfloat16"):
        hf = HFPolicy(model.to(getattr(torch, dtype)), max_context=MAX_CONTEXT, max_concurrency=max(sizes))
        start = time.perf_counter()
        vllm = VLLMPolicy(folder, VLLMSection(dtype=dtype), max_context=MAX_CONTEXT, max_concurrency=max(sizes))
        start_s = time.perf_counter() - start
        answers = [asyncio.run(play_all(policy, episodes[:8], 0.0)) for policy in (hf, vllm)]
        result[dtype] = {"start_s": start_s, **differences(*answers)}
        for size in sizes:
            for name, policy in {"hf": hf, "vllm": vllm}.items():
                speed = rate(policy, weights, episodes[:size], size)
                result["speed"].append({"policy": name, "dtype": dtype, "episodes": size, "tokens_per_s": speed})
                print(result["speed"][-1], flush=True)
        vllm.close()
    return result
