"""What a real pretrained model costs: tokens of a demonstration, tokens read and sampled a second of processor time.

    python benchmarks/real_model_cost.py [--model models/smollm2-135m] [--rows 64] [--length 600]

One thread. Rows are pieces of demonstrations in generated ALFWorld games. A row is read when its prompt is computed,
and sampled from when one token at a time is added to all rows at once.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from machine import describe

from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.base import SampleRequest
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.making import make_env
from agentgym_rft.trainers.sft.demonstrations import demonstrations, sft_agents

NEW_TOKENS = 16


def played(tokenizer: Any, number: int, *, is_listed: bool) -> list[Trajectory]:
    """Return demonstrations under the card `plain`, with or without the admissible actions in each observation."""
    overrides = {"context": {"show_admissible": is_listed}}
    data = {"env": {"options": {"admissible": is_listed}}, "agent": {"overrides": overrides}}
    config = SftConfig.model_validate(data)
    env = make_env(config.env.id, config.env.options)
    agents = sft_agents(config, env, load_card(config.agent), tokenizer)
    return list(islice(demonstrations(env, agents, split="train", seed=0, section=config.sft), number))


def size(episodes: Sequence[Trajectory]) -> str:
    """Return means of tokens, turns and action tokens, as cells of a table."""
    turns = [turn for episode in episodes for turn in episode.turns]
    actions = sum(len(turn.action_ids) for turn in turns)
    tokens = actions + sum(len(turn.context_ids) for turn in turns)
    return " | ".join(f"{total / len(episodes):,.1f}" for total in (tokens, len(turns), actions))


def speed(model: Any, rows: Sequence[tuple[int, ...]]) -> tuple[float, float]:
    """Return tokens read and tokens sampled a second of processor time."""
    policy = HFPolicy(model, max_concurrency=len(rows), max_context=len(rows[0]) + NEW_TOKENS + 1)

    def run(new_tokens: int) -> float:
        async def sample_all() -> None:
            asked = [SampleRequest(f"r{n}", row, new_tokens, (), 1.0, n) for n, row in enumerate(rows)]
            await asyncio.gather(*map(policy.sample, asked))

        start = time.process_time()
        asyncio.run(sample_all())
        for number in range(len(rows)):
            policy.release(f"r{number}")
        return time.process_time() - start

    run(1)  # warms up
    read_s = run(1)
    sampled_s = run(1 + NEW_TOKENS) - read_s
    return sum(map(len, rows)) / read_s, NEW_TOKENS * len(rows) / sampled_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--length", type=int, default=600, help="tokens of a row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    model, tokenizer = load_model(args.model, device="cpu", dtype=torch.float32)
    plain = played(tokenizer, 100, is_listed=False)
    print("\n| mean demonstration | tokens | turns | action tokens |\n|---|---|---|---|")
    print(f"| card `plain` | {size(plain)} |")
    print(f"| admissible actions listed | {size(played(tokenizer, 100, is_listed=True))} |")
    ids = [i for episode in plain for turn in episode.turns for i in (*turn.context_ids, *turn.action_ids)]
    rows = [tuple(ids[n * args.length : (n + 1) * args.length]) for n in range(args.rows)]
    print(
        f"\n| weights, {args.rows} rows of {args.length} tokens | read, tokens/s | sampled, tokens/s |\n|---|---|---|"
    )
    for dtype in (torch.float32, torch.bfloat16):
        read, sampled = speed(model.to(dtype), rows)
        print(f"| {str(dtype).removeprefix('torch.')} | {read:.0f} | {sampled:.0f} |", flush=True)


if __name__ == "__main__":
    main()
