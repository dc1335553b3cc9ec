"""Runs that are killed in the middle of a batch and go on from their journal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.loop import train
from tests.trainers.kills import differences, run_with_kills
from tests.trainers.test_loop import switch_config

KILLED_WITHOUT_JOURNAL = 8  # a row of metrics of the second or third step: there are no lines of a journal to count


def exact_config(policy: Path, out: Path, **run: object) -> Config:
    """Deterministic, few slots so that episodes wait for one another, and a checkpoint every other step."""
    data = switch_config(policy, out).model_dump()
    data["policy"] |= {"deterministic": True, "max_concurrency": 12}
    data["run"] |= {"checkpoint_every": 2, **run}
    return validate_config(data)


def prompts_per_record(folder: Path) -> dict[str, int]:
    return {path.name: path.read_bytes().count(b"\n") for path in (folder / "journal").iterdir()}


@pytest.fixture(scope="module")
def whole(switch_policy, tmp_path_factory):
    """A run that was never killed, and the number of its events."""
    folder = tmp_path_factory.mktemp("whole")
    _, num_events = run_with_kills(exact_config(switch_policy, folder / "run"), folder, [])
    return folder / "run", num_events


def test_a_run_killed_at_random_moments_ends_bit_identical_to_one_that_was_not(switch_policy, tmp_path, whole):
    whole_run, num_events = whole
    moments = np.random.default_rng(3).integers(1, num_events // 3, 5).tolist()
    num_killed, _ = run_with_kills(exact_config(switch_policy, tmp_path / "run"), tmp_path, moments)
    assert num_killed == 5
    assert differences(whole_run, tmp_path / "run") == []


def test_what_was_sampled_before_a_kill_is_not_sampled_again(switch_policy, tmp_path, whole):
    whole_run, num_events = whole
    run_with_kills(exact_config(switch_policy, tmp_path / "run", checkpoint_every=4), tmp_path, [num_events * 2 // 3])
    replayed = [
        row["resume/replayed"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "resume/replayed" in row
    ]
    assert len(replayed) > 1, "the steps before the one that was broken were trained again from the journal"
    assert sum(replayed) > num_events / 3
    assert all(row.get("resume/diverged", 0) == 0 for row in read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert differences(whole_run, tmp_path / "run") == []


def test_without_a_journal_the_broken_batch_is_sampled_again_and_that_is_exact_too(switch_policy, tmp_path):
    """Whole batches are composed as they were, so that even sampling that is not invariant repeats itself."""

    def plain(name: str) -> Config:
        config = exact_config(switch_policy, tmp_path / name, journal=False)
        return config.model_copy(update={"policy": config.policy.model_copy(update={"deterministic": False})})

    train(plain("whole"))
    num_killed, _ = run_with_kills(plain("killed"), tmp_path, [KILLED_WITHOUT_JOURNAL])
    assert num_killed == 1
    assert differences(tmp_path / "whole", tmp_path / "killed") == []


def test_a_journal_of_other_weights_is_dropped_and_counted(switch_policy, tmp_path):
    """With another learning rate, what was sampled from the second step on is of weights that no longer come about."""
    config = exact_config(switch_policy, tmp_path / "run", checkpoint_every=4)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    run_with_kills(config.model_copy(update={"trainer": config.trainer.model_copy(update={"steps": 3})}), tmp_path, [])
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    resumed = config.model_copy(update={"trainer": config.trainer.model_copy(update={"learning_rate": 5e-3})})
    train(resumed, resume=tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[0]["resume/replayed"] > 0
    assert rows[0]["resume/diverged"] == 0
    assert rows[1]["resume/replayed"] == 0
    assert rows[1]["resume/diverged"] > 0
    fresh = exact_config(switch_policy, tmp_path / "fresh", checkpoint_every=4)
    train(fresh.model_copy(update={"trainer": resumed.trainer}))
    assert differences(tmp_path / "fresh", tmp_path / "run") == []


def test_the_journal_keeps_what_the_kept_checkpoints_need(switch_policy, tmp_path):
    train(exact_config(switch_policy, tmp_path / "run", checkpoint_every=1))
    assert sorted(prompts_per_record(tmp_path / "run")) == ["after-000003.jsonl", "after-000004.jsonl"]


def test_without_a_journal_nothing_is_recorded(switch_policy, tmp_path):
    train(exact_config(switch_policy, tmp_path / "run", journal=False))
    assert not (tmp_path / "run" / "journal").exists()


def test_a_run_that_starts_anew_in_the_same_place_forgets_the_journal(switch_policy, tmp_path):
    config = exact_config(switch_policy, tmp_path / "run")
    (tmp_path / "run" / "journal").mkdir(parents=True)
    line = json.dumps(["eval/60", "0" * 32, [1], [-1.0], "stop", 0])
    (tmp_path / "run" / "journal" / "after-000000.jsonl").write_text(line + "\n")
    train(config)
    assert all("resume/diverged" not in row for row in read_metrics(tmp_path / "run" / "metrics.jsonl"))
