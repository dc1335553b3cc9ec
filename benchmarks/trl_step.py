"""Time and memory of a GRPO step: this package against TRL's `GRPOTrainer`, same model, prompts and token counts.

    pip install "trl==1.16.*" && python benchmarks/trl_step.py [--steps 6] [--threads 2] [--policy DIR] [--prompts 4]

Both generate 32 completions (4 prompts x 8) of at most 64 tokens after prompts of 150 words from one model in float32
on the CPU and take one AdamW step on them, each in a process of its own. The model is randomly initialised, of 0.9 M
parameters and with a token for each word, unless `--policy` names another. The table shows the tokens that each
generated, since a completion may end early. The first step is not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe

from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.trainers.loop import all_trajectories, train_step
from agentgym_rft.trainers.run import build
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer

PROMPT_WORDS, COMPLETION_TOKENS, GROUP_SIZE = 150, 64, 8


class Prompts(TextEnv):
    """One turn a task: a long prompt, any answer, a reward that differs between answers."""

    def task_ids(self, split: str) -> Sequence[str]:
        return [str(number) for number in range(1000)]

    def task_content(self, task_id: str) -> bytes:
        return task_id.encode()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        task_id = (options or {})["task_id"]
        return prompt_text(int(task_id)), {"task_id": task_id, "won": False, "score": 0.0}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", reward_of(action), True, False, {"won": False, "score": 0.0}


def prompt_text(number: int) -> str:
    """About `PROMPT_WORDS` words, with those of a chat template."""
    rng = np.random.default_rng(number)
    return " ".join(f"w{i}" for i in rng.integers(0, 100, PROMPT_WORDS - 4))


def reward_of(text: str) -> float:
    return (sum(map(ord, text)) % 101) / 100


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    """Seconds since `clocks` was read, by the clock and the processor."""
    return {"s": time.perf_counter() - start[0], "cpu_s": time.process_time() - start[1]}


def make_policy(folder: Path) -> Path:
    """A random model with a tokenizer that knows the prompts' words."""
    words = " ".join(f"w{i}" for i in range(100))
    tokenizer = train_tokenizer([words] * 3, 1024)
    model = build_model(ModelSection(num_kv_heads=2), 1024, seed=0)
    tokenizer.add_tokens([f"<extra{i}>" for i in range(1024 - len(tokenizer))])
    save_model(folder, model, tokenizer)
    return folder


def run_ours(policy: Path, steps: int, num_prompts: int) -> list[dict[str, float]]:
    config: Config = validate_config(
        {
            "env": {"id": f"{Path(__file__).stem}:Prompts"},
            "agent": {"card": "plain", "overrides": {"system": "", "action": {"max_tokens": COMPLETION_TOKENS}}},
            "policy": {"path": str(policy), "max_context": 1024, "max_concurrency": 32, "device": "cpu"},
            "rollout": {"num_tasks": num_prompts, "group_size": GROUP_SIZE, "max_steps": 1},
            "eval": {"num_tasks": 0},
        }
    )
    parts = build(config)
    rows = []
    for step in range(steps):
        start = clocks()
        _, batch = train_step(parts, step)
        tokens = sum(t.num_action_tokens for t in all_trajectories(batch))
        rows.append({**since(start), "generated": tokens})
    return rows


def run_trl(policy: Path, steps: int, num_prompts: int) -> list[dict[str, float]]:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    rows: list[dict[str, float]] = []
    generated: list[int] = []

    class Clock(TrainerCallback):
        """Notes the wall time of each step, generation included."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.start = clocks()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rows.append({**since(self.start), "generated": generated[-1]})

    def reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        generated.append(sum(map(len, completion_ids)))
        return [reward_of(text) for text in completions]

    model, tokenizer = load_model(policy, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as out:
        config = GRPOConfig(
            output_dir=out,
            per_device_train_batch_size=num_prompts * GROUP_SIZE,
            num_generations=GROUP_SIZE,
            max_completion_length=COMPLETION_TOKENS,
            max_steps=steps,
            beta=0.0,
            learning_rate=1e-4,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        data = Dataset.from_dict({"prompt": [prompt_text(i) for i in range(num_prompts * steps * 2)]})
        trainer = GRPOTrainer(
            model=model, reward_funcs=reward, args=config, train_dataset=data, processing_class=tokenizer
        )
        trainer.add_callback(Clock())
        trainer.train()
    return rows


def measure(side: str, policy: Path, args: argparse.Namespace) -> dict[str, float]:
    """Run one side in a process of its own; returns seconds (by the clock and the processor), tokens and the peak."""
    options = [f"--{name}={getattr(args, name)}" for name in ("steps", "threads", "prompts")]
    command = [sys.executable, __file__, f"--policy={policy}", f"--side={side}", *options]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seen: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return seen


def run_side(args: argparse.Namespace) -> None:
    """Run one side and print what it took, as JSON."""
    torch.set_num_threads(args.threads)
    rows = (run_ours if args.side == "ours" else run_trl)(args.policy, args.steps, args.prompts)
    print(
        json.dumps(
            {
                "s": statistics.median(row["s"] for row in rows[1:]),
                "cpu_s": statistics.median(row["cpu_s"] for row in rows[1:]),
                "generated": statistics.mean(row["generated"] for row in rows[1:]),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--policy", type=Path, help="directory of a model")
    parser.add_argument("--prompts", type=int, default=4, help="prompts a step")
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        run_side(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        policy = args.policy or make_policy(Path(folder) / "policy")
        seen = {side: measure(side, policy, args) for side in ("ours", "trl")}
    print(describe(), f"\nmedian of {args.steps - 1} steps after the first, {args.threads} threads\n")
    print("| trainer | step s | processor s | completion tokens a step | peak MB |\n|---|---|---|---|---|")
    for side, name in (("ours", "agentgym_rft"), ("trl", "TRL")):
        row = seen[side]
        print(f"| {name} | {row['s']:.2f} | {row['cpu_s']:.2f} | {row['generated']:.0f} | {row['peak_mb']:,.0f} |")
    ratios = {key: f"{seen['ours'][key] / seen['trl'][key]:.2f}" for key in ("s", "cpu_s", "peak_mb")}
    print(f"| ratio | {ratios['s']} | {ratios['cpu_s']} | | {ratios['peak_mb']} |")


if __name__ == "__main__":
    main()
