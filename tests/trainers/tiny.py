"""A tiny real model and batches that it sampled itself, for the trainer's tests."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from agentgym_rft.config.run import Config, RunSection, TrainerSection
from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.packing import Layout, minibatches
from agentgym_rft.trainers.batch.table import Row, TokenTable, build_table
from agentgym_rft.trainers.learner.entropy_probe import EntropyProbe
from agentgym_rft.trainers.learner.group import LearnerGroup
from agentgym_rft.trainers.learner.learner import Learner
from agentgym_rft.trainers.learner.processes import ALONE
from agentgym_rft.trainers.learner.scoring import Scorer, make_scorer, score_rows

VOCABULARY = 23
CFG = TrainerSection(packing="padded", learning_rate=1e-2, warmup_steps=0, max_grad_norm=1e9, micro_batch_tokens=64)


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float64) -> Qwen3ForCausalLM:
    """A Qwen3-shaped model of about 3,000 weights with peaked enough outputs."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    model = Qwen3ForCausalLM(config)
    if dtype is torch.float64:
        _use_double_norms(model)
    return model.to(dtype).eval()


def _use_double_norms(module: torch.nn.Module) -> None:
    """Qwen3's own norm rounds to float32 whatever the model's type, which would drown finite differences."""
    for name, child in module.named_children():
        if isinstance(child, Qwen3RMSNorm):
            setattr(module, name, torch.nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon))
        else:
            _use_double_norms(child)


@torch.no_grad()
def sample(model: Qwen3ForCausalLM, row: list[int], number: int, rng: np.random.Generator) -> Turn:
    """An action of `number` tokens after `row` (without context ids), with its log-probs. `row` grows."""
    ids, lps = [], []
    for _ in range(number):
        logprobs = model(torch.tensor([row])).logits[0, -1].double().log_softmax(-1)
        ids.append(int(rng.choice(VOCABULARY, p=logprobs.exp().numpy())))
        lps.append(float(logprobs[ids[-1]]))
        row.append(ids[-1])
    return Turn((), tuple(ids), tuple(lps))


def play(model: Qwen3ForCausalLM, rng: np.random.Generator, number: int, group: int, reward: float) -> Trajectory:
    """An episode of one to three turns of one to four tokens; now and then a turn restarts the row."""
    row: list[int] = []
    turns = []
    for at in range(int(rng.integers(1, 4))):
        restart = at > 0 and rng.random() < 0.3
        row = [] if restart else row
        context = rng.integers(0, VOCABULARY, int(rng.integers(2, 6))).tolist()
        row.extend(context)
        turn = sample(model, row, int(rng.integers(1, 5)), rng)
        turns.append(replace(turn, context_ids=tuple(context), restart=restart, state_key=f"s{at}"))
    turns[-1] = replace(turns[-1], reward=reward)
    stop = StopReason.SUCCESS if reward > 0 else StopReason.FAILURE
    return Trajectory(f"t{group}", f"g{group}", f"e{group}.{number}", tuple(turns), stop, rewards={"task": reward})


def tiny_groups(
    model: Qwen3ForCausalLM, returns: Sequence[Sequence[float]] = ((1, 0, 0), (0, 0), (0.5, 1, 0, 0)), seed: int = 0
) -> list[Group]:
    """One group for each list of returns, sampled by the model at version 0."""
    rng = np.random.default_rng(seed)
    return [
        Group(f"g{g}", f"t{g}", tuple(play(model, rng, n, g, reward) for n, reward in enumerate(rewards)))
        for g, rewards in enumerate(returns)
    ]


def alike(group: Group) -> Group:
    """The group whose episodes begin with the first one's first turn; two of one turn are the same then."""
    first = group.trajectories[0].turns[0]
    members = []
    for trajectory in group.trajectories:
        own, *others = trajectory.turns
        begun = replace(first, reward=own.reward, state_key=own.state_key)
        members.append(replace(trajectory, turns=(begun, *others)))
    return replace(group, trajectories=tuple(members))


def tiny_batch(model: Qwen3ForCausalLM, seed: int = 0) -> tuple[TokenTable, list[Row]]:
    """Table and rows of `tiny_groups`."""
    return build_table(tiny_groups(model, seed=seed), version=0)


def fixed_groups(returns: Sequence[Sequence[float]], lengths: Sequence[Sequence[int]] | None = None) -> list[Group]:
    """Groups of one-turn trajectories with given returns and numbers of action tokens (default 1), without a model."""
    groups = []
    for g, rewards in enumerate(returns):
        trajectories = []
        for n, reward in enumerate(rewards):
            length = lengths[g][n] if lengths else 1
            turn = Turn((1, 2), tuple(range(3, 3 + length)), (-1.0,) * length)
            stop = StopReason.SUCCESS if reward > 0 else StopReason.FAILURE
            trajectories.append(Trajectory(f"t{g}", f"g{g}", f"e{g}.{n}", (turn,), stop, rewards={"task": reward}))
        groups.append(Group(f"g{g}", f"t{g}", tuple(trajectories)))
    return groups


def weights(model: torch.nn.Module) -> torch.Tensor:
    """A copy of all weights as one vector."""
    return torch.cat([p.detach().flatten().double() for p in model.parameters()]).clone()


def value_head(model: Qwen3ForCausalLM, seed: int = 4) -> torch.nn.Linear:
    """A critic's head with random weights, so that the value loss reaches the model's body."""
    head = torch.nn.Linear(model.config.hidden_size, 1, dtype=model.dtype)
    torch.nn.init.normal_(head.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    torch.nn.init.constant_(head.bias, 0.2)
    return head


def trained_weights(model: Qwen3ForCausalLM, algorithm: Algorithm) -> torch.nn.ModuleList:
    """The model, and its value head if the algorithm has a critic."""
    return torch.nn.ModuleList([model, *([value_head(model)] if algorithm.needs_critic else [])])


def teacher_scorer(layout: Layout = "padded") -> Scorer:
    """A teacher: another tiny model."""
    return make_scorer(tiny_model(seed=9).requires_grad_(False), layout=layout)


def taught(table: TokenTable, rows: Sequence[Row], algorithm: Algorithm) -> TokenTable:
    """The table with the log-probs of the teacher, if the algorithm needs them."""
    if "teacher_logprobs" not in algorithm.needs:
        return table
    scores = score_rows(teacher_scorer(), rows, table.num_tokens, 64)
    return table.with_columns({"teacher_logprobs": scores.logprobs})


def scored(model: Qwen3ForCausalLM, table: TokenTable, rows: Sequence[Row], algorithm: Algorithm) -> TokenTable:
    """The table with every column that the algorithm needs of the policy before the update."""
    head = value_head(model) if algorithm.needs_critic else None
    distribution_stats = algorithm.stats_named(algorithm.scored_columns)
    scorer = replace(make_scorer(model, value_head=head), teacher=teacher_scorer())
    table = taught(table, rows, algorithm)
    scores = score_rows(scorer, rows, table.num_tokens, 64, distribution_stats, value=head is not None)
    return table.with_columns({"old_logprobs": scores.logprobs, **scores.columns})


def update(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    table: TokenTable,
    rows: Sequence[Row],
    algorithm: Algorithm,
    trainer: TrainerSection,
    context: Context,
) -> dict[str, float]:
    """One update of a scorer's model on a batch, as `train_step` makes it; returns its metrics."""
    config = Config(trainer=trainer, run=RunSection(seed=context.seed))
    probe = EntropyProbe(0, context.seed, trainer.micro_batch_tokens)
    learner = Learner(config, scorer.model, None, algorithm, scorer, None, None, optimizer, probe, None)
    return updated(LearnerGroup(learner, ALONE, shares_model=True), table, rows, config, context.step)


def updated(
    learners: LearnerGroup, table: TokenTable, rows: Sequence[Row], config: Config, step: int = 0
) -> dict[str, float]:
    """The metrics of an update, made in the order of `train_step`."""
    learners.columns(table, rows, step)
    for part in minibatches(rows, config.trainer, seed=config.run.seed, step=step):
        learners.loss(part)
        learners.step()
    return learners.metrics()


def step(
    model: Qwen3ForCausalLM | torch.nn.ModuleList,
    table: TokenTable,
    rows: Sequence[Row],
    algorithm: Algorithm,
    **cfg: object,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Weights before minus after one update by plain gradient descent at rate 1 (so the gradient, for one optimizer
    step), and the metrics. The model itself (alone, or as `trained_weights` gives it) is left as it was.
    """
    trained = copy.deepcopy(model)
    if not isinstance(trained, torch.nn.ModuleList):
        trained = trained_weights(trained, algorithm)
    before = weights(trained)
    section = CFG.model_copy(update={"learning_rate": 1.0, "logprob_tolerance": 1e9, **cfg})
    optimizer = torch.optim.SGD(trained.parameters())
    head = trained[1] if algorithm.needs_critic else None
    scorer = make_scorer(trained[0], value_head=head, layout=section.packing, recompute=section.gradient_checkpointing)
    if algorithm.compares_with_teacher:
        scorer = replace(scorer, teacher=teacher_scorer(section.packing))
    metrics = update(scorer, optimizer, taught(table, rows, algorithm), rows, algorithm, section, Context())
    return before - weights(trained), metrics
