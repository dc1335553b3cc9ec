from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# As in the command line; it must be set before a test module imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What tests tell commands to trust is not remembered for the user; runs that no command began are trusted here.
_STATE = tempfile.TemporaryDirectory(prefix="agentgym-state-")
os.environ["XDG_STATE_HOME"] = _STATE.name
_ENVS = ("tests.light_switch:LightSwitch", "tests.team_switch:TeamSwitch", "tests.envs.counter_env:CounterEnv")
_TRUSTED = Path(_STATE.name) / "agentgym_rft" / "trusted.jsonl"
_TRUSTED.parent.mkdir()
_TRUSTED.write_text("".join(json.dumps([os.getcwd(), name]) + "\n" for name in _ENVS))


def _forget_data_folders() -> None:
    for name in ("ALFWORLD_DATA", "WEBSHOP_DATA"):
        os.environ.pop(name, None)


def pytest_collection_finish() -> None:
    """A test module that imports the real engine does so while tests are collected, before any fixture."""
    _forget_data_folders()


@pytest.fixture(autouse=True)
def _generated_games() -> Iterator[None]:
    """The real engine, once imported, names a games folder of its own in the environment, which must not be used.

    Not by monkeypatch, which would bring it back for the fixtures of the next module.
    """
    _forget_data_folders()
    yield
    _forget_data_folders()


@pytest.fixture(scope="session")
def switch_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy directory for `tests.light_switch:LightSwitch`."""
    from tests.light_switch import make_policy

    return make_policy(tmp_path_factory.mktemp("policy") / "model")
