"""Samples one group's turns: 8 episodes that begin with the same prompt; `shared_prefixes.py` runs it on two builds.

    python benchmarks/prefix_group.py MODEL ours|generate [--members 8] [--turns 3] [--vocabulary N]

A prompt of 400 tokens, then turns of 24 sampled tokens, each after 80 observed ones of the episode's own. `generate` is
transformers' own loop on the whole batch, which feeds all rows at every turn. With `--vocabulary` a model of MODEL's
shape and random weights has so many tokens. The last line is JSON: processor seconds,
and token positions that the model took in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from agentgym_rft.agents.policies.base import SampleRequest
from agentgym_rft.agents.policies.hf import HFPolicy

PROMPT, SAMPLED, OBSERVED = 400, 24, 80  # tokens


def observed(rng: np.random.Generator, vocabulary: int, number: int) -> list[int]:
    """Return random tokens."""
    return rng.integers(10, vocabulary, number).tolist()


async def ours(model: Any, members: int, turns: int, vocabulary: int) -> int:
    """Play the group with the policy of this package; returns the positions that it fed."""
    policy = HFPolicy(model, max_concurrency=members, max_context=PROMPT + turns * (SAMPLED + OBSERVED))
    prompt = observed(np.random.default_rng(0), vocabulary, PROMPT)

    async def episode(number: int) -> None:
        rng, row = np.random.default_rng([1, number]), list(prompt)
        for turn in range(turns):
            request = SampleRequest(f"e{number}", tuple(row), SAMPLED, (), 1.0, 100 * number + turn)
            row += (await policy.sample(request)).ids
            row += observed(rng, vocabulary, OBSERVED)
        policy.release(f"e{number}")

    await asyncio.gather(*map(episode, range(members)))
    return policy.num_forward_tokens


@torch.no_grad()
def generate(model: Any, members: int, turns: int, vocabulary: int) -> int:
    """Play the group with `model.generate`; returns the positions that it fed."""
    rows = torch.tensor([observed(np.random.default_rng(0), vocabulary, PROMPT)] * members)
    rngs, fed = [np.random.default_rng([1, number]) for number in range(members)], 0
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}
    for _ in range(turns):
        fed += rows.numel() + members * (SAMPLED - 1)
        mask = torch.ones_like(rows)
        rows = model.generate(rows, attention_mask=mask, max_new_tokens=SAMPLED, min_new_tokens=SAMPLED, **options)
        more = [observed(rng, vocabulary, OBSERVED) for rng in rngs]
        rows = torch.cat([rows, torch.tensor(more)], dim=1)
    return fed


def opened(folder: Path, vocabulary: int | None) -> Any:
    """Return the model, or one of its shape with another vocabulary and random weights."""
    if vocabulary is None:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = AutoConfig.from_pretrained(folder, vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def main() -> None:
    """Play the group and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("way", choices=("ours", "generate"))
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--vocabulary", type=int)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = opened(args.model, args.vocabulary)
    vocabulary = model.get_input_embeddings().num_embeddings

    def play() -> int:
        if args.way == "ours":
            return asyncio.run(ours(model, args.members, args.turns, vocabulary))
        return generate(model, args.members, args.turns, vocabulary)

    play()  # warms up
    start = time.process_time()
    embedded = play()
    cpu_s = time.process_time() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"code": 0, "cpu_s": cpu_s, "embedded": embedded, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
