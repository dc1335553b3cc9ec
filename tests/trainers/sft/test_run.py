from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.config.load import validate_sft_config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.errors import CheckpointError, ConfigError, DataError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.report.sft_progress import NoSftProgress
from agentgym_rft.trainers.sft.run import imitate
from tests.light_switch import MODEL, LightSwitch, weights_of

ROOT = Path(__file__).parents[3]
METRICS = ("step", "tokens/total", "loss/all", "loss/action", "grad/norm", "update/learning_rate")


def config(out: Path, init: str = "scratch", **sft: object) -> SftConfig:
    return validate_sft_config(
        {
            "env": {"id": "tests.light_switch:Undecided"},
            "init": init,
            "device": "cpu",
            "num_threads": 1,
            "model": MODEL.model_dump(),
            "sft": {"tokens": 3_000, "batch_tokens": 500, "tokenizer_episodes": 5, "noise": 0.0, **sft},
            "eval": {"num_tasks": 0},
            "run": {"out": str(out), "checkpoint_every": 2},
        }
    )


def metrics(run: Path) -> list[list[float]]:
    return [[row[key] for key in METRICS] for row in read_metrics(run / "metrics.jsonl")]


def assert_equal_runs(a: Path, b: Path) -> None:
    assert metrics(a) == metrics(b)
    first, second = weights_of(a / "model"), weights_of(b / "model")
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def kill_at(step: int, killed: SftConfig) -> None:
    """Run until a step begins, in which the process is killed."""
    script = (
        "import os, signal, sys\n"
        "from agentgym_rft.config.sft import SftConfig\n"
        "from agentgym_rft.trainers.sft import fit, run\n"
        "accumulate, count = fit.accumulate, []\n"
        "def dying(*args):\n"
        "    count.append(1)\n"
        f"    if len(count) == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return accumulate(*args)\n"
        "fit.accumulate = dying\n"
        "run.imitate(SftConfig.model_validate_json(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, killed.model_dump_json()], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL


class Stopping(NoSftProgress):
    """Presses Ctrl-C after a step, and listens to what is noted."""

    def __init__(self, step: int) -> None:
        self._step = step
        self.notes: list[str] = []

    def step(self, metrics):
        if metrics["step"] == self._step:
            os.kill(os.getpid(), signal.SIGINT)

    def note(self, message):
        self.notes.append(message)


@pytest.mark.parametrize(
    "sft",
    [
        {},
        {"optimizer": "adamw", "packing": "packed", "micro_batch_tokens": 100, "bf16": True, "context_weight": 0.0},
    ],
    ids=["muon", "adamw"],
)
def test_a_run_killed_in_a_step_and_resumed_ends_with_the_weights_of_one_that_was_not(tmp_path, sft):
    if "context_weight" in sft:
        sft = sft | {"tokens": 500}
    imitate(config(tmp_path / "whole", **sft))
    killed = config(tmp_path / "killed", **sft)
    kill_at(4, killed)
    assert [row["step"] for row in read_metrics(tmp_path / "killed" / "metrics.jsonl")] == [1, 2, 3]
    result = imitate(killed, resume=tmp_path / "killed")
    assert result.num_steps == len(metrics(tmp_path / "whole")) > 4
    assert not result.is_interrupted
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")
    assert not (tmp_path / "killed" / "checkpoints").exists()


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    imitate(config(tmp_path / "whole"))
    killed = config(tmp_path / "killed")
    kill_at(2, killed)
    listening = Stopping(step=0)
    imitate(killed, resume=tmp_path / "killed", shown=listening)
    assert listening.notes[0] == "The run has no checkpoint yet, so it starts again."
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


def test_ctrl_c_finishes_the_step_and_saves_it(tmp_path):
    stopped = config(tmp_path / "stopped")
    listening = Stopping(step=3)
    result = imitate(stopped, shown=listening)
    assert (result.is_interrupted, result.num_steps) == (True, 3)
    assert listening.notes == [
        "Interrupted: this step is finished and saved first. Press Ctrl-C again to stop at once."
    ]
    assert not (tmp_path / "stopped" / "model").exists()
    resumed = imitate(stopped, resume=tmp_path / "stopped")
    assert not resumed.is_interrupted
    imitate(config(tmp_path / "whole"))
    assert_equal_runs(tmp_path / "whole", tmp_path / "stopped")


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path):
    imitate(config(tmp_path / "whole"))
    stopped = config(tmp_path / "stopped")
    imitate(stopped, shown=Stopping(step=5))
    newest = tmp_path / "stopped" / "checkpoints" / "step-000005" / "model" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    listening = Stopping(step=0)
    imitate(stopped, resume=tmp_path / "stopped", shown=listening)
    assert listening.notes == ["going on after step 4"]
    assert_equal_runs(tmp_path / "whole", tmp_path / "stopped")


def test_adapters_resume_exactly_and_are_merged_in_the_end(switch_policy, tmp_path):
    pytest.importorskip("peft")
    lora = {"lora": {"rank": 2}, "context_weight": 0.3}
    imitate(config(tmp_path / "whole", str(switch_policy), **lora))
    stopped = config(tmp_path / "stopped", str(switch_policy), **lora)
    imitate(stopped, shown=Stopping(step=3))
    assert (tmp_path / "stopped" / "checkpoints" / "step-000003" / "adapter" / "adapter_model.safetensors").is_file()
    imitate(stopped, resume=tmp_path / "stopped")
    assert_equal_runs(tmp_path / "whole", tmp_path / "stopped")
    start, end = weights_of(switch_policy), weights_of(tmp_path / "whole" / "model")
    assert start.keys() == end.keys()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {name for name in start if "_proj" in name}
    load_model(tmp_path / "whole" / "model", device="cpu")


def test_a_checkpoint_of_adapters_is_not_one_of_all_weights(switch_policy, tmp_path):
    pytest.importorskip("peft")
    imitate(config(tmp_path / "run", str(switch_policy), lora={"rank": 2}, context_weight=0.3), shown=Stopping(step=3))
    with pytest.raises(CheckpointError, match="is of a run that trained adapters"):
        imitate(config(tmp_path / "run", str(switch_policy), context_weight=0.3), resume=tmp_path / "run")


def test_a_pretrained_policy_learns_and_is_evaluated_before_and_after(switch_policy, tmp_path):
    made = config(tmp_path / "run", str(switch_policy), tokens=1_000, learning_rate=1e-2)
    data = made.model_dump() | {"eval": {"num_tasks": 20, "at_start": True, "split": "valid_unseen", "max_steps": 2}}
    data["env"]["id"] = "tests.trainers.sft.test_run:Red"
    result = imitate(validate_sft_config(data))
    (first, before), (last, after) = result.evaluations
    assert (first, last) == (0, result.num_steps)
    assert before["success"] < 0.9
    assert after["success"] == 1.0
    assert before["num_tasks"] == after["num_tasks"] == 20


class Red(LightSwitch):
    """The switch, with an expert that knows the colour."""

    def expert(self, observation, rng, noise=0.0):
        return self

    def act(self, observation):
        return "red"


def test_an_evaluation_that_was_stopped_is_made_up_for(tmp_path, monkeypatch):
    from agentgym_rft.trainers.sft import run

    data = config(tmp_path / "run").model_dump() | {"eval": {"num_tasks": 3}}
    made, evaluation = validate_sft_config(data), run.run_evaluation

    def stopped(request, keep):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_evaluation", stopped)
    with pytest.raises(KeyboardInterrupt):
        imitate(made)
    monkeypatch.setattr(run, "run_evaluation", evaluation)
    before = weights_of(tmp_path / "run" / "model")
    result = imitate(made, resume=tmp_path / "run")
    assert [step for step, _ in result.evaluations] == [result.num_steps]
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(tmp_path / "run" / "model").items())


def test_a_finished_run_whose_model_is_cut_off_is_not_called_done(tmp_path):
    made = config(tmp_path / "run")
    imitate(made)
    weights = tmp_path / "run" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"to train again, start it in another directory\."):
        imitate(made, resume=tmp_path / "run")


def test_a_panel_that_cannot_be_played_is_refused_before_the_first_step(tmp_path):
    data = config(tmp_path / "run").model_dump() | {"eval": {"num_tasks": 3, "split": "tests"}}
    with pytest.raises(DataError, match="There is no split 'tests'"):
        imitate(validate_sft_config(data))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_begun_where_one_is(tmp_path):
    imitate(config(tmp_path / "run"), shown=Stopping(step=1))
    with pytest.raises(ConfigError, match=r"holds a run already\. Go on with --resume"):
        imitate(config(tmp_path / "run"))


def test_reports_on_own_episodes_resume_exactly(tmp_path):
    """The starting policy does not play again: what it played was kept."""
    data = {
        "env": {"id": "agentgym/ALFWorld-v0", "options": {"admissible": False}},
        "init": "seed",
        "device": "cpu",
        "num_threads": 1,
        "sft": {"tokens": 6_000, "batch_tokens": 2_000, "optimizer": "muon", "context_weight": 0.3},
        "eval": {"num_tasks": 0},
    }
    data["sft"] |= {"reflection_share": 0.5, "guided_share": 0.25, "episodes": 12, "episode_steps": 12}
    made = {
        name: validate_sft_config(data | {"run": {"out": str(tmp_path / name), "checkpoint_every": 1}})
        for name in ("whole", "stopped")
    }
    imitate(made["whole"])
    imitate(made["stopped"], shown=Stopping(step=2))
    played = (tmp_path / "stopped" / "episodes.jsonl.zst").stat().st_mtime_ns
    imitate(made["stopped"], resume=tmp_path / "stopped")
    assert (tmp_path / "stopped" / "episodes.jsonl.zst").stat().st_mtime_ns == played
    assert_equal_runs(tmp_path / "whole", tmp_path / "stopped")
