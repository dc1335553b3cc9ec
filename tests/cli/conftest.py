from __future__ import annotations

from pathlib import Path

import pytest

from agentgym_rft.agents.policies.loading import save_model
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy for the counter environments, in Hugging Face format."""
    path = tmp_path_factory.mktemp("policy") / "tiny"
    tokenizer = train_tokenizer(["up", "down", "the counter shows 1."] * 5, 300)
    section = ModelSection(hidden_size=16, intermediate_size=16, num_layers=1, num_heads=1, head_dim=16)
    save_model(path, build_model(section, len(tokenizer), 0), tokenizer)
    return path
