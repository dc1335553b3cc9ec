"""Seed policies are found by name, by environment, or refused with the closest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgym_rft.agents.policies import seeds
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.seeds import is_seed, seed_names, seed_of_env, seed_policy_path
from agentgym_rft.errors import DataError

MAX_BYTES = 10_000_000  # of all seed policies in the wheel


@pytest.mark.parametrize("name", seed_names())
def test_every_seed_policy_can_be_served(name: str) -> None:
    model, tokenizer = load_model(seed_policy_path(f"seed:{name}"), device="cpu")
    assert HFPolicy(model).version == 0
    assert len(tokenizer) == model.config.vocab_size


def test_all_seed_policies_together_are_small() -> None:
    folder = seed_policy_path().parent
    assert 0 < sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MAX_BYTES


def test_seed_alone_is_the_one_of_alfworld() -> None:
    assert seed_policy_path("seed") == seed_policy_path("seed:alfworld")


def test_an_environment_without_a_seed_policy_gets_the_one_of_alfworld() -> None:
    assert (seed_of_env("alfworld"), seed_of_env("nothing_like_it")) == ("seed:alfworld", "seed:alfworld")


def test_only_seed_and_its_names_are_seeds() -> None:
    assert [is_seed(name) for name in ("seed", "seed:x", "seeds", "runs/seed")] == [True, True, False, False]


@pytest.mark.parametrize("name", ["seed:alfwrld", "seed:..", "seed:/"])
def test_an_unknown_seed_policy_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(DataError, match=r"There is no seed policy .*alfworld"):
        seed_policy_path(name)


def test_an_installation_without_seed_policies_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "_FOLDER", tmp_path)
    with pytest.raises(DataError, match="has no seed policy"):
        seed_policy_path()
