"""What each algorithm and each entropy control costs in the update, as a ratio to plain GRPO on the same batch.

    python benchmarks/update_cost.py [--device cpu] [--bf16] [--repeats 7] [--recipe grpo] [-- OVERRIDES]

One batch is rolled out with the recipe; then every update runs on it in turn with plain GRPO's, each on a copy of the
same weights, and the median of the pairwise ratios is printed. With the ratio comes the achieved share of the device's
matrix rate: floating-point operations of the update (6 a weight and token forward and backward, 2 forward only, plus
attention) over those of a large matrix product measured in the same run and type. Everything after `--` goes to the
configuration; `--policy.path=DIR` takes a larger model.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from dataclasses import dataclass

import torch
from machine import describe
from one_update import update

from agentgym_rft.cli.settings import fresh_config
from agentgym_rft.config.load import parse_override
from agentgym_rft.config.run import AlgorithmSection, Config
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.entropy.controls import CONTROLS
from agentgym_rft.trainers.batch.groups import has_signal, split_errors
from agentgym_rft.trainers.batch.table import Row, TokenTable, build_table
from agentgym_rft.trainers.learner.optimizer import make_optimizer
from agentgym_rft.trainers.learner.scoring import make_scorer
from agentgym_rft.trainers.run import Parts, build


@dataclass(frozen=True)
class Batch:
    """A table, its rows and the configuration they were rolled out with."""

    table: TokenTable
    rows: list[Row]
    config: Config


def roll_out(parts: Parts) -> Batch:
    """One step's batch, without groups of equal returns: plain GRPO would only score them."""
    groups, _ = split_errors(parts.workers.run(lambda: parts.explorer.collect(0)))
    table, rows = build_table([group for group in groups if has_signal(group)], 0)
    zeros = torch.zeros(table.num_tokens)
    return Batch(table.with_columns({"ref_logprobs": zeros}), rows, parts.config)


def seconds(parts: Parts, batch: Batch, algorithm: Algorithm) -> float:
    """Time of one update from the same weights."""
    model = copy.deepcopy(parts.model)
    head = torch.nn.Linear(model.config.hidden_size, 1).to(model.device) if algorithm.needs_critic else None
    scorer = make_scorer(model, bf16=batch.config.trainer.bf16, value_head=head)
    optimizer = make_optimizer(model, batch.config.trainer)
    wait(scorer.device)
    start = time.perf_counter()
    update(scorer, optimizer, batch.table, batch.rows, algorithm, batch.config.trainer)
    wait(scorer.device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(parts: Parts, batch: Batch, algorithm: Algorithm, plain: Algorithm, repeats: int) -> tuple[float, float]:
    """Median of pairwise ratios to plain GRPO, and the median seconds."""
    pairs = [(seconds(parts, batch, algorithm), seconds(parts, batch, plain)) for _ in range(repeats)]
    return statistics.median(a / b for a, b in pairs), statistics.median(a for a, _ in pairs)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(5):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def operations(parts: Parts, batch: Batch) -> float:
    """Floating-point operations of plain GRPO's update: forward, backward, and a pass before several steps."""
    cfg, trainer = parts.model.config, batch.config.trainer
    body = sum(p.numel() for p in parts.model.base_model.parameters()) - cfg.vocab_size * cfg.hidden_size
    tokens = sum(len(row.ids) - 1 for row in batch.rows)
    attention = sum((len(row.ids) - 1) ** 2 for row in batch.rows) * cfg.num_attention_heads * cfg.head_dim
    forward = 2 * body * tokens + 2 * cfg.vocab_size * cfg.hidden_size * batch.table.num_tokens
    forward += 2 * cfg.num_hidden_layers * attention  # causal: half of 4 L^2 d
    num_forward = 1 if trainer.num_minibatches * trainer.num_epochs > 1 else 0
    return forward * (3 * trainer.num_epochs + num_forward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="grpo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    given = [parse_override(text.removeprefix("--")) for text in args.overrides]
    fixed = [(["policy", "device"], args.device), (["trainer", "bf16"], args.bf16), (["eval", "num_tasks"], 0)]
    parts = build(fresh_config(None, args.recipe, [*fixed, *given]))
    batch = roll_out(parts)
    plain = build_algorithm(AlgorithmSection())
    seconds(parts, batch, plain)  # warm-up
    print(f"{describe()}; {args.device}, {'bf16 autocast' if args.bf16 else 'float32'}, recipe {args.recipe}")
    print(f"{batch.table.num_tokens} trained of {sum(len(row.ids) for row in batch.rows)} tokens\n")
    print("| part | ratio to plain GRPO | seconds |\n|---|---|---|")
    sections = {name: AlgorithmSection(name=name) for name in sorted(ALGORITHMS)}
    sections |= {f"grpo + {name}": AlgorithmSection(controls=(name,)) for name in sorted(CONTROLS)}
    sections |= {
        "grpo, ratio over turns": AlgorithmSection.model_validate({"units": {"ratio": "turn"}}),
        "grpo + entropy gradient": AlgorithmSection(entropy_coef=0.01),
    }
    for name, section in sections.items():
        value, median_s = ratio(parts, batch, build_algorithm(section), plain, args.repeats)
        print(f"| {name} | {value:.2f} | {median_s:.3f} |", flush=True)
    plain_s = statistics.median(seconds(parts, batch, plain) for _ in range(args.repeats))
    rate = matrix_rate(torch.device(args.device), torch.bfloat16 if args.bf16 else torch.float32)
    achieved = operations(parts, batch) / plain_s
    print(f"\nplain GRPO: {plain_s:.3f} s, {achieved / 1e9:.1f} of {rate / 1e9:.1f} Gflop/s ({achieved / rate:.1%})")


if __name__ == "__main__":
    main()
