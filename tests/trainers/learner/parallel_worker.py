"""What each process of `test_parallel.py` computes: the step and the metrics of every case."""

from __future__ import annotations

from typing import Any

import torch

from agentgym_rft.config.run import AlgorithmSection, ParallelSection
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.learner import trained_module
from agentgym_rft.trainers.learner.parallelize import wrapped
from agentgym_rft.trainers.learner.processes import Ranks, joined
from agentgym_rft.trainers.learner.scoring import make_scorer, score_rows
from tests.trainers.tiny import CFG, alike, tiny_groups, tiny_model, update, value_head

RETURNS = ((1, 0, 0), (0, 0), (0.5, 1, 0, 0), (1, 1), (0, 1, 0))

# Name -> algorithm, trainer, and whether input and output embeddings are tied.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "grpo": ({}, {}, False),
    "tied": ({}, {}, True),
    "minibatches": ({}, {"num_minibatches": 2, "num_epochs": 2}, True),
    "kl and entropy": ({"kl_coef": 0.2, "entropy_coef": 0.05}, {}, True),
    "gspo": ({"name": "gspo"}, {"num_epochs": 2}, False),
    "r3l": ({"name": "r3l"}, {"num_minibatches": 2}, True),
    "ppo": ({"name": "ppo"}, {"num_epochs": 2}, True),
    "ppo one step": ({"name": "ppo"}, {}, False),
    "one row": ({"entropy_coef": 0.1}, {}, True),  # one of two processes has nothing to do
    "dynamics": ({}, {"entropy_dynamics": True, "num_minibatches": 2}, True),
    "recomputed": ({}, {"gradient_checkpointing": True}, True),
    "packed": (
        {"name": "ppo"},
        {"packing": "packed", "num_epochs": 2, "gradient_checkpointing": True, "logprob_tolerance": 9.0},
        True,
    ),
}


def make_model(*, tied: bool) -> Any:
    model = tiny_model()
    if tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def result(name: str, ranks: Ranks) -> dict[str, Any]:
    """The change of every weight by plain gradient descent at rate 1e-2, and the metrics."""
    section, trainer, tied = CASES[name]
    algorithm = build_algorithm(AlgorithmSection(**section))
    model = make_model(tied=tied)
    groups = tiny_groups(model, [[1]] if name == "one row" else RETURNS)
    table, rows = build_table([alike(group) for group in groups] if name == "packed" else groups, 0)
    assert (len(rows) == 1) == (name == "one row")
    table = table.with_columns(
        {"ref_logprobs": score_rows(make_scorer(tiny_model(seed=9)), rows, table.num_tokens, 64).logprobs}
    )
    cfg = CFG.model_copy(update={"learning_rate": 1e-2, "logprob_tolerance": 1e-3, **trainer})
    head = value_head(model) if algorithm.needs_critic else None
    scorer = make_scorer(model, value_head=head, layout=cfg.packing, recompute=cfg.gradient_checkpointing)
    scorer = wrapped(scorer, ranks)
    module = trained_module(scorer)
    before = {key: full(weight).clone() for key, weight in module.state_dict().items()}
    optimizer = torch.optim.SGD(module.parameters())
    metrics = update(scorer, optimizer, table, rows, algorithm, cfg, Context())
    change = {key: full(weight) - before[key] for key, weight in module.state_dict().items()}
    return {"change": change, "metrics": metrics}


def full(tensor: Any) -> torch.Tensor:
    whole: torch.Tensor = tensor.full_tensor() if isinstance(tensor, torch.distributed.tensor.DTensor) else tensor
    return whole.detach()


def write_results(strategy: str, out: str) -> None:
    """Every case, by one of several processes, into the folder `out`."""
    torch.set_num_threads(1)
    with joined(ParallelSection(strategy=strategy, timeout_s=60)) as ranks:
        results = {name: result(name, ranks) for name in CASES}
        torch.save(results, f"{out}/{ranks.rank}.pt")
