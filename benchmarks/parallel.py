"""What the trainer costs with one and with two processes (DDP, FSDP2), padded and packed rows, and recomputed layers.

    python benchmarks/parallel.py [--tasks 4] [--group 4] [--hidden 256] [--layers 6] [--repeats 5]

The seed policy plays one batch of ALFWorld; a fresh model of the given size, with the same vocabulary, trains on its
rows. Every variant runs in processes of its own with one torch thread each, from the same weights, and takes one
update to warm up. Printed: the median time of an update, by the clock and of a process's own CPU (which other work on
the machine does not stretch); the share of the clock's time beyond that of one process which trains on the same share
of the rows alone (communication, waiting, and the work of DDP or FSDP2 itself); the growth of the largest resident
memory of a process over what it had before the model; and the size of weights, gradients and optimizer state that a
process holds.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from machine import describe
from one_update import update

from agentgym_rft.cli.settings import fresh_config
from agentgym_rft.config.load import parse_override
from agentgym_rft.config.run import AlgorithmSection, ParallelSection, TrainerSection
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.batch.groups import split_errors
from agentgym_rft.trainers.batch.packing import num_fed, pack
from agentgym_rft.trainers.batch.table import Row, TokenTable, build_table
from agentgym_rft.trainers.learner.optimizer import make_optimizer
from agentgym_rft.trainers.learner.parallelize import trained_module, wrapped
from agentgym_rft.trainers.learner.processes import joined
from agentgym_rft.trainers.learner.scoring import make_scorer
from agentgym_rft.trainers.run import build
from agentgym_rft.trainers.sft.model import build_model


@dataclass(frozen=True)
class Variant:
    """One row of the table. `share`: train on every `share`-th row alone, as one of so many processes would."""

    name: str
    strategy: str = "none"
    trainer: Mapping[str, Any] | None = None
    share: int = 1

    @property
    def size(self) -> int:
        return 1 if self.strategy == "none" else 2


@dataclass(frozen=True)
class Work:
    """What every process needs."""

    table: TokenTable
    rows: list[Row]
    vocabulary: int
    model: ModelSection
    repeats: int


@dataclass(frozen=True)
class Measured:
    """Of one process."""

    step_s: float
    cpu_s: float
    peak_mib: float
    held_mib: float


def roll_out(tasks: int, group: int) -> tuple[TokenTable, list[Row], int]:
    """One batch of the seed policy's episodes, and the size of its vocabulary."""
    given = [f"rollout.num_tasks={tasks}", f"rollout.group_size={group}", "eval.num_tasks=0", "policy.device=cpu"]
    parts = build(fresh_config("alfworld", None, [parse_override(text) for text in given]))
    groups, _ = split_errors(parts.workers.run(lambda: parts.explorer.collect(0)))
    table, rows = build_table(groups, 0)
    vocabulary = parts.model.get_input_embeddings().num_embeddings
    parts.workers.close()
    return table, rows, vocabulary


def run_process(rank: int, variant: Variant, folder: str, port: int) -> None:
    """One process of a variant; writes what it measured."""
    torch.set_num_threads(1)
    with Path(folder, "work.pkl").open("rb") as file:
        work: Work = pickle.load(file)
    if variant.strategy != "none":
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": variant.size, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"})
    measured = measure(variant, work)
    Path(folder, f"{rank}.pkl").write_bytes(pickle.dumps(measured))


def measure(variant: Variant, work: Work) -> Measured:
    """Median time of an update and the memory of this process."""
    cfg = TrainerSection.model_validate(
        {"logprob_tolerance": 1e9, "micro_batch_tokens": 4096, **(variant.trainer or {})}
    )
    rows = sorted(work.rows, key=lambda row: -len(row.ids))[:: variant.share]
    algorithm = build_algorithm(AlgorithmSection(entropy_coef=0.01))  # every row has a gradient
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with joined(ParallelSection.model_validate({"strategy": variant.strategy})) as ranks:
        model = build_model(work.model, work.vocabulary, 0)
        scorer = make_scorer(model, bf16=cfg.bf16, layout=cfg.packing, recompute=cfg.gradient_checkpointing)
        scorer = wrapped(scorer, ranks)
        module = trained_module(scorer)
        optimizer = make_optimizer(module, cfg)
        times, cpu_times = [], []
        for step in range(work.repeats + 1):
            start, cpu_start = time.perf_counter(), time.process_time()
            update(scorer, optimizer, work.table, rows, algorithm, cfg, step)
            times.append(time.perf_counter() - start)
            cpu_times.append(time.process_time() - cpu_start)
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        kept = held(module, optimizer) / 2**20
        return Measured(statistics.median(times[1:]), statistics.median(cpu_times[1:]), peak, kept)


def held(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, gradients and optimizer state in this process."""
    weights = list(module.parameters())
    states = [value for state in optimizer.state.values() for value in state.values()]
    return sum(2 * size_of(weight) for weight in weights) + sum(size_of(value) for value in states)


def size_of(tensor: Any) -> int:
    own = tensor.to_local() if isinstance(tensor, torch.distributed.tensor.DTensor) else tensor
    return int(own.numel() * own.element_size())


def run_variant(variant: Variant, work: Work) -> list[Measured]:
    """What each process of a variant measured."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        Path(folder, "work.pkl").write_bytes(pickle.dumps(work))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mp.spawn(run_process, (variant, folder, port), nprocs=variant.size)
        return [pickle.loads(Path(folder, f"{rank}.pkl").read_bytes()) for rank in range(variant.size)]


VARIANTS = (
    Variant("1 process, padded"),
    Variant("1 process, packed", trainer={"packing": "packed"}),
    Variant("1 process, layers recomputed", trainer={"gradient_checkpointing": True}),
    Variant("1 process, packed, layers recomputed", trainer={"packing": "packed", "gradient_checkpointing": True}),
    Variant("1 process, half of the rows", share=2),
    Variant("2 processes, DDP", "ddp"),
    Variant("2 processes, FSDP2", "fsdp2"),
    Variant("2 processes, FSDP2, bf16", "fsdp2", {"bf16": True}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tasks", 4), ("group", 4), ("hidden", 256), ("layers", 6), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    table, rows, vocabulary = roll_out(args.tasks, args.group)
    heads = args.hidden // 32
    section = ModelSection(
        hidden_size=args.hidden, intermediate_size=3 * args.hidden, num_layers=args.layers, num_heads=heads
    )
    work = Work(table, rows, vocabulary, section, args.repeats)
    lengths = [len(row.ids) - 1 for row in rows]
    num_weights = sum(weight.numel() for weight in build_model(section, vocabulary, 0).parameters())
    print(f"{describe()}; load {os.getloadavg()[0]:.1f}; {num_weights / 1e6:.1f} M weights, float32")
    print(f"{len(rows)} rows of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all, 4096 a micro-batch")
    for layout in ("padded", "packed"):
        batches = pack(rows, 4096, layout)
        print(f"{layout}: {num_fed(batches)} tokens fed, {len(batches)} micro-batches")
    print("\n| variant | update s | CPU s a process | communication and waiting | peak MiB a process | held MiB |")
    print("|---|---|---|---|---|---|")
    alone = 0.0
    for variant in VARIANTS:
        measured = run_variant(variant, work)
        step_s = max(one.step_s for one in measured)
        alone = step_s if variant.share == 2 else alone
        is_comparable = variant.size == 2 and not variant.trainer
        waiting = f"{max(0.0, 1 - alone / step_s):.0%}" if is_comparable else ""
        peak, kept = max(one.peak_mib for one in measured), max(one.held_mib for one in measured)
        cpu_s = max(one.cpu_s for one in measured)
        print(f"| {variant.name} | {step_s:.2f} | {cpu_s:.2f} | {waiting} | {peak:.0f} | {kept:.0f} |", flush=True)


if __name__ == "__main__":
    main()
