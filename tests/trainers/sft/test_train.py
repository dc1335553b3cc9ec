from __future__ import annotations

import math

import numpy as np
import torch

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import parse_card
from agentgym_rft.config.sft import SftConfig, SftSection
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.rollouts.seats import only_agent
from agentgym_rft.trainers.sft.demonstrations import demonstrate
from agentgym_rft.trainers.sft.model import train_tokenizer
from agentgym_rft.trainers.sft.rows import sft_rows
from agentgym_rft.trainers.sft.train import start_policy, train_sft
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
