"""What imitation of a pretrained model costs: tokens a second and memory, beside another checkout in the same run.

    python benchmarks/sft_cost.py [--model DIR] [--against CHECKOUT] [--threads 2] [--steps 3]

Every row is a run of `agentgym sft --env alfworld --init DIR` in a process of its own. Speed is that of all steps but
the first, in tokens that the model reads, without padding: by the clock, and by the processor time that was used, which
other work on the machine changes less. Memory is the peak of the process. `--against` is a checkout of other code, such
as a `git worktree`; it takes turns with this one. The last two rows are models with random weights that differ in their
vocabulary alone.

Without --model the model has random weights in the shape of SmolLM2-135M. Its numbers differ little from a real one's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import describe
from transformers import LlamaConfig, LlamaForCausalLM

from agentgym_rft.agents.policies.loading import load_tokenizer, save_model
from agentgym_rft.trainers.sft.model import train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
BATCH, SMALL_BATCH = 8_000, 3_000
VOCABULARY, LARGE_VOCABULARY = 49_152, 151_936
ACTION_SHARE = 0.11  # of the tokens of a demonstration in ALFWorld under the card `plain`

# Notes the processor time at each row of metrics, whatever the checkout.
CHILD = """
import sys, time
from agentgym_rft.cli.main import run
from agentgym_rft.report.metrics import MetricsWriter
write = MetricsWriter.write
MetricsWriter.write = lambda self, row: write(self, {**row, "cpu_s": time.process_time()})
sys.exit(run(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Cost:
    """Tokens a second of the clock and of processor time, and the peak of memory in GB."""

    per_s: float
    per_cpu_s: float
    peak_gb: float


def measure(checkout: Path, model: Path, threads: int, tokens: int, batch: int, *more: str) -> Cost:
    """Run `agentgym sft` of a checkout until it has trained a number of tokens."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        args = ["sft", "--env=alfworld", f"--init={model}", "--device=cpu", f"--num_threads={threads}", f"--out={out}"]
        args += [f"--sft.tokens={tokens}", f"--sft.batch_tokens={batch}", *more]
        env = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        child = subprocess.Popen([sys.executable, "-c", CHILD, *args], cwd=checkout, env=env, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"agentgym {' '.join(args)} ended with exit code {child.returncode}.")
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    first, last = rows[0], rows[-1]
    if first is last:
        sys.exit("The run had one step, so there is no speed after the first. Give more --steps.")
    key = "tokens/read" if "tokens/read" in first else "tokens/total"
    read = last[key] - first[key]
    return Cost(
        read / (last["time_s"] - first["time_s"]), read / (last["cpu_s"] - first["cpu_s"]), usage.ru_maxrss * 1024 / 1e9
    )


def random_model(folder: Path, vocabulary: int, tokenizer: object = None) -> Path:
    """Save a model with random weights in the shape of SmolLM2-135M, and return its directory."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    own = tokenizer or train_tokenizer(["go to desk 1", "You see nothing."] * 3, 400)
    save_model(folder, LlamaForCausalLM(config), own)
    return folder


def row(name: str, cost: Cost) -> None:
    print(f"| {name} | {cost.per_s:.0f} | {cost.per_cpu_s:.0f} | {cost.peak_gb:.2f} |", flush=True)


def compare(model: Path, against: Path, args: argparse.Namespace) -> None:
    """Print this checkout's speed beside another's, which takes turns with it; ratios are medians over the repeats."""
    trained = {"": int(ACTION_SHARE * SMALL_BATCH * args.steps), "old": SMALL_BATCH * (args.steps - 1)}
    like = ("--sft.context_weight=0.3", "--sft.bf16=false", "--eval.num_tasks=0")
    ratios: dict[str, list[tuple[float, float]]] = {"by default": [], "float32, all tokens": []}
    for _ in range(args.repeats):
        old = measure(against, model, args.threads, trained["old"], SMALL_BATCH)
        row(f"other checkout, {SMALL_BATCH:,} tokens a batch", old)
        own = measure(ROOT, model, args.threads, trained[""], SMALL_BATCH, "--eval.num_tasks=0")
        row(f"this one, {SMALL_BATCH:,} tokens a batch", own)
        same = measure(ROOT, model, args.threads, trained["old"], SMALL_BATCH, *like)
        row("this one, float32, all tokens in the loss", same)
        for name, cost in zip(ratios, (own, same), strict=True):
            ratios[name].append((cost.per_s / old.per_s, cost.per_cpu_s / old.per_cpu_s))
    for name, pairs in ratios.items():
        clock, processor = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"| ratio of tokens a second, {name} | {clock:.2f} | {processor:.2f} | |", flush=True)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="directory in Hugging Face format; default: random weights")
    parser.add_argument("--against", type=Path, help="a checkout of other code")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps of a run, about")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    print(f"{describe()}, {args.threads} threads, torch {torch.__version__}\n")
    print("| run | tokens/s | tokens per processor second | peak GB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = None if args.model is None else load_tokenizer(args.model)
        model = args.model or random_model(Path(folder) / "model", VOCABULARY)
        if args.against is not None:
            compare(model.resolve(), args.against.resolve(), args)
        trained = int(ACTION_SHARE * BATCH * args.steps)
        own = measure(ROOT, model.resolve(), args.threads, trained, BATCH, "--eval.num_tasks=0")
        row(f"this one, {BATCH:,} tokens a batch", own)
        costs = []
        for vocabulary in (VOCABULARY, LARGE_VOCABULARY):
            made = random_model(Path(folder) / str(vocabulary), vocabulary, tokenizer)
            costs.append(measure(ROOT, made, args.threads, trained, BATCH, "--eval.num_tasks=0"))
            row(f"random weights, vocabulary {vocabulary:,}, {BATCH:,} tokens a batch", costs[-1])
        print(f"| ratio of memory, vocabulary of 152 k to 49 k | | | {costs[1].peak_gb / costs[0].peak_gb:.2f} |")


if __name__ == "__main__":
    main()
