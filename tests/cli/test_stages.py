"""A recipe with stages: imitation from scratch, then reinforcement, as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentgym_rft.cli import main as cli
from agentgym_rft.config.load import read_yaml, shipped_dir
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.report.metrics import read_metrics

MODEL = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2, "head_dim": 8}


def recipe(**changes: Any) -> dict[str, Any]:
    """Two stages that take seconds."""
    return {
        "env": {"id": "tests.light_switch:LightSwitch"},
        "run": {"seed": 3},
        "stages": [
            {"name": "imitate", "model": MODEL | {"max_context": 64}, "sft": {"tokens": 4_000, "batch_tokens": 1_000}},
            {
                "name": "reinforce",
                "policy": {"max_context": 64, "device": "cpu", "num_threads": 1},
                "rollout": {"num_tasks": 2, "group_size": 2, "max_steps": 4},
                "trainer": {"steps": 2},
                "eval": {"num_tasks": 4},
            },
        ],
    } | changes


def written(data: dict[str, Any], folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_each_stage_starts_from_the_model_of_the_last(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.run(["train", "--recipe", written(recipe(), tmp_path), "--seed", "5", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["1-imitate", "2-reinforce", "stages.yaml"]
    assert (out / "1-imitate" / "model" / "config.json").is_file()
    config = read_yaml(out / "2-reinforce" / "config.yaml")
    assert config["policy"]["path"] == str(out / "1-imitate" / "model")
    assert config["run"]["seed"] == read_yaml(out / "1-imitate" / "config.yaml")["run"]["seed"] == 5
    assert len(read_metrics(out / "2-reinforce" / "metrics.jsonl")) == 2
    assert f"run {out}" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_with_its_first_unfinished_stage(tmp_path):
    out = tmp_path / "run"
    assert cli.run(["train", "--recipe", written(recipe(), tmp_path), "--out", str(out)]) == 0
    model = (out / "1-imitate" / "model" / "model.safetensors").read_bytes()
    made = (out / "1-imitate" / "metrics.jsonl").stat().st_mtime_ns
    for path in sorted(
        (out / "2-reinforce").rglob("*"), reverse=True
    ):  # as if it was stopped before its first checkpoint
        path.rmdir() if path.is_dir() else path.unlink()
    assert cli.run(["train", "--resume", str(out)]) == 0
    assert (out / "1-imitate" / "metrics.jsonl").stat().st_mtime_ns == made
    assert len(read_metrics(out / "2-reinforce" / "metrics.jsonl")) == 2
    (out / "1-imitate" / "model" / "model.safetensors").unlink()
    for path in sorted((out / "1-imitate" / "model").iterdir()):
        path.unlink()
    (out / "1-imitate" / "model").rmdir()
    assert cli.run(["train", "--resume", str(out)]) == 0  # imitation starts again, and gives the same model
    assert (out / "1-imitate" / "model" / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trainer": {"steps": 3}}, "'trainer' stands beside the stages"),
        ({"stages": {}}, "'stages' is not a list of mappings"),
        ({"stages": [{"trainer": {"steps": 3}}]}, "Stage 1 has the name None"),
        ({"stages": [{"name": "a/b"}]}, "Stage 1 has the name 'a/b'"),
        ({"stages": [{"name": "a", "trainer": {"stepz": 3}}]}, "Stage 'a': There is no configuration key"),
        ({"stages": [{"name": "a", "recipe": 0.5}]}, "Stage 'a' has the recipe 0.5"),
        ({"stages": [{"name": "a", "policy": 5, "env": "b"}]}, "Stage 'a': Configuration key"),
        ({"stages": [{"name": "a", "sft": {"tokenz": 3}}]}, "Stage 'a': There is no configuration key"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_before_anything_runs(tmp_path, capsys, change, sentence):
    arguments = ["train", "--recipe", written(recipe(**change), tmp_path), "--out", str(tmp_path / "run")]
    assert cli.run(arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_options_that_are_not_for_every_stage_are_refused(tmp_path, capsys):
    path = written(recipe(), tmp_path)
    assert cli.run(["train", "--recipe", path, "--steps", "3", "--out", str(tmp_path / "run")]) == 2
    assert "takes no --trainer.steps" in capsys.readouterr().err


def test_a_run_with_stages_is_resumed_as_it_was_begun(tmp_path, capsys):
    (tmp_path / "stages.yaml").write_text(yaml.safe_dump(recipe()))
    assert cli.run(["train", "--resume", str(tmp_path), "--steps", "3"]) == 2
    assert "leave out all options" in capsys.readouterr().err
    assert cli.run(["train", "--recipe", written(recipe(), tmp_path), "--out", str(tmp_path)]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_the_shipped_recipe_imitates_and_then_reinforces():
    from agentgym_rft.cli.stages import read_stages

    first, second = read_stages(read_yaml(shipped_dir("trainers") / "sft_then_grpo.yaml"))
    assert isinstance(first.config, SftConfig)
    assert isinstance(second.config, Config)
    assert (first.starts_from_last, second.starts_from_last) == (False, True)
    assert second.config.algorithm.name == "grpo"
    assert second.config.algorithm.negative_weight == 0.1
