from __future__ import annotations

import os
from pathlib import Path

import pytest

# As in the command line; it must be set before a test module imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def _generated_games(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real engine, once imported, names a games folder of its own in the environment, which must not be used."""
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)


@pytest.fixture(scope="session")
def switch_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy directory for `tests.light_switch:LightSwitch`."""
    from tests.light_switch import make_policy

    return make_policy(tmp_path_factory.mktemp("policy") / "model")
