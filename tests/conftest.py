from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def switch_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy directory for `tests.light_switch:LightSwitch`."""
    from tests.light_switch import make_policy

    return make_policy(tmp_path_factory.mktemp("policy") / "model")
