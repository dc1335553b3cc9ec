"""A run directory that is opened, and what a refused run leaves in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.store.run_dir import opened

CONFIG = validate_config({})


def ended_by(error: Exception, folder: Path, *, is_new: bool = True, metrics: str = "") -> bool:
    """Whether `config.yaml` is left by a run that an error ended."""
    with suppress(type(error)), opened(folder, CONFIG, is_new=is_new):
        assert (folder / "config.yaml").is_file()
        (folder / "metrics.jsonl").write_text(metrics)
        raise error
    return (folder / "config.yaml").exists()


def test_a_new_run_that_is_refused_leaves_no_configuration(tmp_path):
    assert not ended_by(ConfigError("no"), tmp_path / "run")
    assert ended_by(PolicyError("failed"), tmp_path / "run")


def test_a_run_that_has_steps_or_is_resumed_keeps_it(tmp_path):
    assert ended_by(ConfigError("no"), tmp_path / "steps", metrics='{"step": 1}\n')
    assert ended_by(ConfigError("no"), tmp_path / "resumed", is_new=False)


def test_a_new_run_removes_what_an_earlier_start_left_and_nothing_of_its_user(tmp_path):
    kept, left = tmp_path / "evaluations" / "notes.txt", tmp_path / "evaluations" / "step_000000_test.json"
    kept.parent.mkdir()
    for path in (kept, left):
        path.touch()
    with opened(tmp_path, CONFIG, is_new=True):
        assert kept.exists()
        assert not left.exists()


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "made")
    with pytest.raises(ConfigError, match="Cannot write to"), opened(tmp_path, CONFIG, is_new=True):
        pass
    assert not (tmp_path / "made").exists()
