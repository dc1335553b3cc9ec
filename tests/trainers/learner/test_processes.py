"""Several real processes train as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from agentgym_rft.cli.main import run
from agentgym_rft.config.load import merge
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.learner.processes import ALONE
from tests.trainers.learner.parallel_worker import CASES, result, write_results
from tests.trainers.learner.processes import agentgym, run_within, together
from tests.trainers.test_loop import final_weights, switch_config

ROOT = Path(__file__).parents[3]
STRATEGIES = ["ddp", "fsdp2"]
PPO = {"name": "ppo", "kl_coef": 0.05}  # a critic and a reference policy


@pytest.fixture(scope="module")
def alone():
    """What one process computes in each case."""
    return {name: result(name, ALONE) for name in CASES}


@pytest.fixture(scope="module", params=STRATEGIES)
def computed(request, tmp_path_factory):
    """What each of two processes computes in each case."""
    folder = tmp_path_factory.mktemp(request.param)
    started = together(write_results, (request.param, str(folder)), folder)
    assert started.codes() == [0, 0], started.log(0)[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_take_the_step_that_one_takes(alone, computed):
    for name in CASES:
        for key, change in alone[name]["change"].items():
            assert change.abs().max() > 0, (name, key)
            for rank in range(2):
                other = computed[rank][name]["change"][key]
                assert torch.allclose(other, change, rtol=1e-5, atol=1e-8), (name, key)


def test_two_processes_report_the_metrics_of_one(alone, computed):
    for name in CASES:
        for rank in range(2):
            assert computed[rank][name]["metrics"] == pytest.approx(alone[name]["metrics"], rel=1e-5, abs=1e-7), name


def recipe(policy: Path, folder: Path, steps: int = 4, **sections: object) -> str:
    """The recipe of a run on the light switch, as a file; `folder` has its directory."""
    data = switch_config(policy, folder / "run", steps=steps).model_dump(mode="json")
    data = merge(data, sections)
    data["run"]["keep_checkpoints"] = 9
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(data))
    return str(folder / "recipe.yaml")


def assert_close_weights(a: Path, b: Path, atol: float) -> None:
    first, second = final_weights(a), final_weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert (first[name] - second[name]).abs().max() <= atol, name


@pytest.fixture(scope="module")
def whole(switch_policy, tmp_path_factory):
    """The directory of a run of one process, with a critic, and its recipe."""
    folder = tmp_path_factory.mktemp("whole")
    path = recipe(switch_policy, folder, algorithm=PPO, trainer={"num_minibatches": 2})
    assert run(["train", "--recipe", path]) == 0
    return folder / "run"


def test_a_run_goes_on_with_another_number_of_processes_as_if_nothing_had_happened(whole, switch_policy, tmp_path):
    path = recipe(switch_policy, tmp_path, algorithm=PPO, trainer={"num_minibatches": 2})
    assert run(["train", "--recipe", path, "--steps", "1"]) == 0
    resume = ["train", "--resume", str(tmp_path / "run")]
    for steps, strategy in (("2", "fsdp2"), ("3", "ddp")):
        words = [*resume, "--steps", steps, f"--trainer.parallel.strategy={strategy}"]
        started = agentgym(words, tmp_path / strategy)
        assert started.codes() == [0, 0], started.log(0)[-3000:]
        assert "success" in started.log(0)
        assert started.log(1).strip() == ""
    assert run([*resume, "--steps", "4", "--trainer.parallel.strategy=auto"]) == 0
    shards = sorted(path.name for path in (tmp_path / "run/checkpoints/step-000002/trainer").glob("*.distcp"))
    assert shards == ["__0_0.distcp", "__1_0.distcp"]
    assert_close_weights(whole, tmp_path / "run", atol=1e-4)
    rows, others = (read_metrics(folder / "metrics.jsonl") for folder in (whole, tmp_path / "run"))
    assert [row["episode/return"] for row in rows] == [row["episode/return"] for row in others]
    assert [row["loss/total"] for row in rows] == pytest.approx([row["loss/total"] for row in others], abs=1e-5)


def test_torchrun_starts_a_run(switch_policy, tmp_path):
    path = recipe(switch_policy, tmp_path, steps=1, eval={"num_tasks": 0})
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "agentgym_rft", "train", "--recipe", path]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 1


def test_bfloat16_shards_train_nearly_as_one_process_with_autocast(switch_policy, tmp_path):
    words = ["--trainer.bf16=true", "--eval.num_tasks=0"]
    paths = [recipe(switch_policy, tmp_path / name, 2, algorithm={"name": "ppo"}) for name in ("one", "two")]
    assert run(["train", "--recipe", paths[0], *words]) == 0
    started = agentgym(["train", "--recipe", paths[1], *words, "--trainer.parallel.strategy=fsdp2"], tmp_path / "logs")
    assert started.codes() == [0, 0], started.log(0)[-3000:]
    rows, others = (read_metrics(tmp_path / name / "run/metrics.jsonl") for name in ("one", "two"))
    assert all(0 < row["drift/logprob_mean"] < 0.02 for row in others)
    for name in ("loss/total", "grad/norm"):  # from the second step on, episodes differ
        assert others[0][name] == pytest.approx(rows[0][name], rel=0.01)
    assert {weight.dtype for weight in final_weights(tmp_path / "two/run").values()} == {torch.float32}


def wait_for_steps(run_dir: Path, number: int) -> None:
    """Until so many steps are done."""
    end = time.monotonic() + 120
    path = run_dir / "metrics.jsonl"
    while not (path.is_file() and len(path.read_text().splitlines()) >= number):
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.02)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_fails_the_run_and_its_last_checkpoint_is_good(switch_policy, tmp_path, victim):
    path = recipe(switch_policy, tmp_path, steps=100_000)
    started = agentgym(["train", "--recipe", path], tmp_path / "logs")
    wait_for_steps(tmp_path / "run", 2)
    os.kill(started.processes[victim].pid, signal.SIGKILL)
    codes = started.codes()
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == 1
    assert "Another process of this run ended" in started.log(1 - victim)
    done = json.loads((max((tmp_path / "run/checkpoints").glob("step-*")) / "manifest.json").read_text())["step"]
    assert run(["train", "--resume", str(tmp_path / "run"), "--steps", str(done + 1)]) == 0


def test_a_process_that_does_not_answer_fails_the_run(switch_policy, tmp_path):
    path = recipe(switch_policy, tmp_path, steps=100_000, trainer={"parallel": {"timeout_s": 5.0}})
    started = agentgym(["train", "--recipe", path], tmp_path / "logs")
    wait_for_steps(tmp_path / "run", 2)
    os.kill(started.processes[1].pid, signal.SIGSTOP)
    try:
        started.processes[0].join(120)
        assert started.processes[0].exitcode == 1
        assert "did not answer within trainer.parallel.timeout_s" in started.log(0)
    finally:
        started.kill()


@pytest.mark.parametrize("size", [1, 2])
def test_a_disk_that_takes_no_more_fails_the_run_with_a_sentence_and_leaves_the_older_checkpoint(
    switch_policy, tmp_path, size
):
    path = recipe(switch_policy, tmp_path, steps=1)
    assert run(["train", "--recipe", path]) == 0
    words = ["train", "--resume", str(tmp_path / "run"), "--steps", "2"]
    started = together(run_within, (20_000, words), tmp_path / "logs", size)
    assert started.codes() == [1] * size
    sentence = " ".join(started.log(0).split())
    assert "Cannot write a checkpoint to" in sentence
    assert "File too large" in sentence
    assert "The older checkpoints there are unchanged." in sentence
    assert "Traceback" not in sentence
    assert [place.name for place in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]
    assert run(words) == 0


def test_what_process_0_refuses_ends_the_others(switch_policy, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    started = agentgym(["train", "--recipe", recipe(switch_policy, tmp_path)], tmp_path / "logs")
    assert started.codes() == [2, 1]
    assert "holds a run already" in started.log(0)
    assert "Process 0 failed: ConfigError" in started.log(1)


@pytest.mark.parametrize(
    ("words", "size", "message"),
    [
        (["--trainer.parallel.strategy=ddp"], 0, "Start them with: torchrun"),
        (["--trainer.parallel.strategy=none"], 2, "torchrun started 2 processes"),
        (["--trainer.parallel.strategy=fsdp2", "--trainer.entropy_probe=8"], 2, "write trainer.parallel.strategy=ddp"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(switch_policy, tmp_path, capfd, words, size, message):
    words = ["train", "--recipe", recipe(switch_policy, tmp_path), *words]
    if not size:
        assert run(words) == 2
        assert message in capfd.readouterr().err
        return
    started = agentgym(words, tmp_path / "logs", size)
    assert started.codes()[0] == 2
    assert message in started.log(0)
