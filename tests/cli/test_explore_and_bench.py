"""`agentgym explore` and `agentgym bench` from the command line."""

from __future__ import annotations

import json

import pytest

from agentgym_rft.cli.main import run
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.trainers.loop import train
from tests.trainers.test_loop import switch_config


@pytest.fixture(scope="module")
def trained(switch_policy, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "run"
    config = switch_config(switch_policy, out, steps=4)
    return train(
        config.model_copy(
            update={
                "run": config.run.model_copy(update={"keep_checkpoints": 9, "checkpoint_every": 2}),
                "eval": config.eval.model_copy(update={"num_tasks": 0}),
            }
        )
    ).run_dir


def bench(trained, *more):
    return run(["bench", str(trained), "--tasks", "6", "--samples", "3", "--split", "valid_seen", *more])


def test_bench_evaluates_the_start_and_every_checkpoint_and_goes_on(trained, tmp_path, capfd):
    out = tmp_path / "bench"
    assert bench(trained, "--out", str(out)) == 0
    curve = json.loads((out / "curve.json").read_text())
    assert [point["step"] for point in curve["points"]] == [0, 2, 4]
    for point in curve["points"]:
        success = point["success"]
        assert success["worst"] <= success["mean"] <= success["best"]
        assert (point["num_tasks"], point["samples"]) == (6, 3)
    assert "best@3" in capfd.readouterr().out
    (out / "step_000002.json").unlink()
    assert bench(trained, "--out", str(out)) == 0
    assert capfd.readouterr().err.count(": known") == 2
    assert json.loads((out / "curve.json").read_text()) == curve
    assert bench(trained, "--out", str(out), "--seed", "1") == 0
    assert capfd.readouterr().err.count(": known") == 0


def test_bench_refuses_what_is_no_run(tmp_path, capfd):
    assert run(["bench", str(tmp_path)]) == 2
    assert "is no run directory" in capfd.readouterr().err


def test_explore_fills_a_store_with_the_newest_checkpoint_of_a_run(trained, tmp_path, capfd):
    path = tmp_path / "s.db"
    command = ["explore", f"--follow={trained}", f"--store={path}", "--groups=5"]
    assert run(command) == 0
    store = ExperienceStore(path)
    turns = [t for group in store.groups(store.keys) for each in group.valid for t in each.turns]
    assert {t.policy_version for t in turns} == {4}
    assert (store.accounting().written, store.is_finished) == (5, True)
    assert "5 groups written, 0 used" in capfd.readouterr().out
    assert run(command) == 0  # nothing is left to do
    assert store.accounting().written == 5


def test_explore_without_a_store_is_refused(trained, capfd):
    assert run(["explore", f"--follow={trained}"]) == 2
    assert "name a file with --store" in capfd.readouterr().err
