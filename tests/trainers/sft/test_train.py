from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import parse_card
from agentgym_rft.config.sft import ModelSection, SftConfig, SftSection
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.rollouts.seats import only_agent
from agentgym_rft.trainers.sft.demonstrations import demonstrate
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer
from agentgym_rft.trainers.sft.train import (
    SftRow,
    build_optimizers,
    length_batches,
    pad_batch,
    schedule,
    sft_loss,
    sft_rows,
    start_policy,
    train_sft,
)
from tests.light_switch import COLOURS, MODEL, Undecided

CARD = parse_card({"name": "plain"})


def trajectory(*turns: Turn) -> Trajectory:
    return Trajectory("t", "g", "e", turns, StopReason.SUCCESS)


def test_rows_mark_the_action_tokens_and_start_anew_where_history_was_rewritten():
    first = Turn([1, 2], [3], [0.0])
    second = Turn([4], [5, 6], [0.0, 0.0])
    third = Turn([7], [8], [0.0], restart=True)
    rows = list(sft_rows(trajectory(first, second, third), max_context=5))
    assert [row.ids.tolist() for row in rows] == [[1, 2, 3, 4, 5], [7, 8]]  # cut at five tokens
    assert [row.is_action.tolist() for row in rows] == [[False, False, True, False, True], [False, True]]


def test_loss_weighs_action_tokens_one_context_less_and_padding_nothing():
    torch.manual_seed(0)
    model = build_model(ModelSection(hidden_size=16, intermediate_size=16, num_layers=1, head_dim=8), 300, seed=0)
    rows = [
        SftRow(np.array([5, 6, 7]), np.array([False, False, True])),
        SftRow(np.array([8, 9]), np.array([False] * 2)),
    ]
    loss, action_loss = sft_loss(model, pad_batch(rows, context_weight=0.25))
    logprobs = [model(torch.tensor(row.ids[None])).logits[0].detach().log_softmax(-1) for row in rows]
    context = -float(logprobs[0][0, 6]) - float(logprobs[1][0, 9])
    action = -float(logprobs[0][1, 7])
    assert loss.item() == pytest.approx((action + 0.25 * context) / 1.5, rel=1e-5)
    assert float(action_loss) == pytest.approx(action, rel=1e-5)


def test_batches_hold_every_row_once_within_the_token_budget():
    rng = np.random.default_rng(0)
    rows = [SftRow(np.full(n, i), np.ones(n, bool)) for i, n in enumerate(rng.integers(2, 40, 512))]
    section = SftSection(batch_tokens=100)
    seen: list[int] = []
    for batch in length_batches(iter(rows), section, seed=0):
        assert batch.ids.numel() <= 100
        seen += batch.ids[:, 0].tolist()
        if len(seen) == len(rows):
            break
    assert sorted(seen) == list(range(512))


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 0.05), (0.01, 0.5), (0.02, 1.0), (0.6, 1.0), (0.8, 0.5), (1.0, 0.0)]
)
def test_the_learning_rate_warms_up_stays_and_falls_to_zero(progress, factor):
    section = SftSection(warmup_fraction=0.02, cooldown_fraction=0.4)
    assert schedule(progress, section) == pytest.approx(factor)


def test_every_weight_is_in_exactly_one_optimizer_and_only_matrices_use_muon():
    model = build_model(MODEL, 300, seed=0)
    muon, adamw = build_optimizers(model, SftSection())
    owned = [id(p) for optimizer in (muon, adamw) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    assert all(p.ndim == 2 and p.shape[0] != 300 for group in muon.param_groups for p in group["params"])


def test_a_demonstration_is_tokens_that_a_policy_could_have_sampled():
    tokenizer = train_tokenizer(["red", "blue", "Task 12, 2 turns left."] * 3, 300)
    chat = chat_format(tokenizer, CARD)
    agents = only_agent(CARD, chat)
    (played,) = demonstrate(Undecided(), agents, "4", seed=1, noise=0.0)
    assert played.won
    assert all(turn.action_ids[-1] == chat.stop_ids[0] for turn in played.turns)
    assert {chat.text(turn.action_ids) for turn in played.turns} <= {"red", "blue"}
    assert demonstrate(Undecided(), agents, "4", seed=1, noise=0.0) == (played,)


def test_the_same_seed_trains_the_same_model_and_leaves_the_global_stream_alone():
    config = SftConfig(model=MODEL, sft=SftSection(tokens=3_000, batch_tokens=500, tokenizer_episodes=5))
    before = torch.get_rng_state()
    weights = []
    for _ in range(2):
        env = Undecided()
        model, tokenizer = start_policy(config, env, CARD)
        train_sft(config, env, CARD, model, tokenizer, lambda row: None)
        weights.append(model.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_loss_falls_to_what_is_left_to_chance():
    losses: list[float] = []
    config = SftConfig(
        model=MODEL, sft=SftSection(tokens=150_000, batch_tokens=1_000, learning_rate=1e-2, matrix_learning_rate=5e-2)
    )
    env = Undecided()
    model, tokenizer = start_policy(config, env, CARD)
    train_sft(config, env, CARD, model, tokenizer, lambda row: losses.append(row["loss/action"]))
    replies = [tokenizer.encode(colour) for colour in COLOURS]
    chance = math.log(2) / np.mean([len(reply) + 1 for reply in replies])  # one coin toss a reply, the end included
    assert losses[0] > 4
    assert chance * 0.8 < np.mean(losses[-10:]) < chance * 1.3


def test_the_shipped_chat_template_decodes_and_encodes_any_text():
    tokenizer = train_tokenizer(["go to desk 1"] * 3, 300)
    for text in ("go to desk 1", "ünïcode 🙂", "<|end|>x"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text
