"""A tiny environment with a scripted expert and injected faults, and a policy that can play it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.loading import save_model
from agentgym_rft.config.run import AgentSection
from agentgym_rft.config.sft import ModelSection, SftSection
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import DataError, EnvError
from agentgym_rft.rollouts.seats import only_agent
from agentgym_rft.trainers.sft.batches import batches
from agentgym_rft.trainers.sft.demonstrations import demonstrations
from agentgym_rft.trainers.sft.fit import steps
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer
from agentgym_rft.trainers.sft.rows import sft_rows
from agentgym_rft.trainers.sft.trainee import Done, make_trainee

COLOURS = ("red", "blue")
MODEL = ModelSection(
    vocab_size=300, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, head_dim=8, max_context=64
)


class LightSwitch(TextEnv):
    """Two turns, each of which must say red. `fault` breaks the tasks whose number is a multiple of 3."""

    def __init__(self, fault: str = "") -> None:
        self._fault = fault
        self._task = 0
        self._left = 0
        self._won = False

    def task_ids(self, split: str) -> Sequence[str]:
        starts = {"train": 0, "valid_seen": 30, "valid_unseen": 60}
        if split not in starts:
            raise DataError(f"There is no split '{split}'; expected one of {', '.join(starts)}.")
        start = starts[split]
        return [str(number) for number in range(start, start + 30)]

    def task_content(self, task_id: str) -> bytes:
        return task_id.encode()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._task = int((options or {})["task_id"])
        self._left, self._won = 2, False
        if self._breaks("reset"):
            raise ValueError("the switch is missing")
        return self._room(), self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._left <= 0:
            raise EnvError("There is no running episode; call reset before step.")
        if self._breaks("step"):
            raise ZeroDivisionError("the switch broke")
        is_right = action == COLOURS[0]
        self._left -= 1
        self._won = is_right and self._left == 0
        reward = float("nan") if self._breaks("nan") else float(self._won)
        score = 7.0 if self._breaks("score") else float(self._won)
        is_over = self._won or not is_right
        return self._room(), reward, is_over, False, {**self._info(), "score": score}

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> RandomColours:
        return RandomColours(rng)

    def _breaks(self, where: str) -> bool:
        return self._fault == where and self._task % 3 == 0

    def _room(self) -> str:
        return f"Task {self._task}, {self._left} turns left."

    def _info(self) -> dict[str, Any]:
        score = float(self._won)
        return {"task_id": str(self._task), "won": self._won, "score": score, "state_key": f"{self._left}"}


class RandomColours:
    """Says either colour, whatever it sees."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, observation: str) -> str:
        return COLOURS[int(self._rng.integers(2))]


class Undecided(LightSwitch):
    """Any colour is right: its demonstrations teach the commands, not which one to give."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        self._won = self._left == 0
        return self._room(), float(self._won), self._won, False, self._info()


def make_policy(folder: Path, shape: ModelSection = MODEL) -> Path:
    """A policy that knows the two commands but not when to give which, in Hugging Face format."""
    card = load_card(AgentSection())
    tokenizer = train_tokenizer([card.system, "Task 12, 2 turns left.", *COLOURS] * 3, shape.vocab_size)
    model = build_model(shape, len(tokenizer), seed=0)
    section = SftSection(tokens=60_000, batch_tokens=1_000, learning_rate=1e-2, matrix_learning_rate=5e-2)
    chat = chat_format(tokenizer, card)
    played = demonstrations(Undecided(), only_agent(card, chat), split="train", seed=0, section=SftSection(noise=0.0))
    rows = (row for trajectory in played for row in sft_rows(trajectory, shape.max_context))
    list(steps(make_trainee(model, section, seed=0), batches(rows, section, "padded", seed=0), Done()))
    save_model(folder, model, tokenizer)
    return folder


def weights_of(model_dir: Path) -> dict[str, torch.Tensor]:
    """The weights in a model directory."""
    from safetensors.torch import load_file

    return load_file(model_dir / "model.safetensors")
