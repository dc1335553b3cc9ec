"""`agentgym eval`: every kind of policy, samples, panels, resuming after a kill, hanging environments."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import agentgym_rft
from agentgym_rft.cli import main as cli
from agentgym_rft.envs.alfworld.export import export_games
from tests.rollouts.chat_server import chat_server, said

ROOT = Path(agentgym_rft.__file__).parent.parent
ENVS = "tests.cli.eval_envs"
COUNTED = "tests.envs.counted_env:Counted"
COUNTER = "tests.envs.counter_env:CounterEnv"
WITHOUT_VLLM = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")


def evaluated(tmp_path, *options):
    """The result of an evaluation that must work."""
    out = tmp_path / "result.json"
    assert cli.run(["eval", "--out", str(out), *map(str, options)]) == 0
    assert list(tmp_path.glob("*.partial.jsonl")) == []
    return json.loads(out.read_text())


def refused(capsys, *options):
    """The sentence of one that must be refused."""
    assert cli.run(["eval", *map(str, options)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("policy", ["oracle", "expert", "random"])
def test_a_scripted_player_is_evaluated_without_a_model(tmp_path, policy):
    result = evaluated(tmp_path, "--env", COUNTED, "--policy", policy)
    assert (result["policy"], result["num_tasks"], result["num_errors"]) == (policy, 3, 0)
    assert result["protocol"] == {
        "env": COUNTED,
        "options": {},
        "split": "valid_unseen",
        "panel_hash": result["panel_hash"],
        "card": None,
        "max_steps": 50,
        "temperature": None,
        "samples": 1,
    }
    assert (result["held_out_of"], result["sampled_tokens"]) == ("train", None)
    assert list(result["by_type"]) == ["even", "odd"]
    assert result["wall_time_s"] >= 0
    assert policy == "random" or result["success"] == 1.0


def test_a_scripted_player_needs_no_torch():
    code = "import sys; from agentgym_rft.cli.main import run; run(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "eval", "--env", COUNTED, "--policy", "oracle"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def test_a_model_directory_has_tokens_and_a_card(tmp_path, model_dir):
    options = ("--env", COUNTER, "--policy", model_dir, "--device", "cpu", "--max-steps", "2")
    result = evaluated(tmp_path, *options)
    assert result["protocol"]["card"].startswith("plain@")
    assert (result["protocol"]["temperature"], result["max_steps"]) == (0.0, 2)
    assert result["sampled_tokens"] > 0
    assert result["context_tokens"] > 0


def test_an_endpoint_is_evaluated(tmp_path):
    with chat_server(lambda body: said("up", prompt_tokens=5, completion_tokens=1)) as (url, asked):
        result = evaluated(tmp_path, "--env", COUNTER, "--policy", f"openai:big@{url}")
    assert (result["success"], result["sampled_tokens"], result["context_tokens"]) == (1.0, 3.0, 15.0)
    assert {request["model"] for request in asked} == {"big"}


def test_a_reply_without_content_counts_as_a_task_that_was_not_won(tmp_path):
    def answer(body):
        return said(None if "valid_unseen-0" in body["messages"][-1]["content"] else "up")

    with chat_server(answer) as (url, _):
        result = evaluated(tmp_path, "--env", COUNTER, "--policy", f"openai:big@{url}", "--max-steps", "5")
    assert (result["num_errors"], result["num_tasks"]) == (0, 3)
    assert result["success"] == pytest.approx(2 / 3)


def test_a_result_says_what_an_endpoint_refused(tmp_path):
    def answer(body):
        return (400, {"error": "min_p is unknown"}) if "min_p" in body else said("<action>up</action>")

    with chat_server(answer) as (url, _):
        result = evaluated(tmp_path, "--env", COUNTER, "--policy", f"openai:big@{url}", "--max-steps", "5")
    (note,) = result["notes"]
    assert note.startswith("The endpoint takes no top_p, top_k, min_p, repetition_penalty")


def test_data_with_the_evaluated_split_alone_are_played_and_both_result_and_terminal_say_so(tmp_path, capsys):
    export_games(tmp_path / "games", "valid_unseen", 2)
    result = evaluated(tmp_path, "--env", "alfworld", "--policy", "oracle", "--data", tmp_path / "games")
    (note,) = result["notes"]
    assert "held out of 'train' could not be checked: No playable games in" in note
    assert note in " ".join(capsys.readouterr().err.split())
    assert (result["num_tasks"], result["success"], result["held_out_of"]) == (2, 1.0, None)


def test_a_dead_endpoint_fails_and_leaves_nothing_to_go_on_with(tmp_path, capsys):
    with chat_server(lambda body: (401, {"error": "key"})) as (url, _):
        code = cli.run(["eval", "--env", COUNTER, "--policy", f"openai:m@{url}", "--out", str(tmp_path / "r.json")])
    assert code == 1
    assert "Every episode ended with an error: PolicyError at turn 0: The endpoint gave no reply: HTTP 401" in (
        capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(["--policy", "vllm:dir"], "needs vLLM, which is not installed.", marks=WITHOUT_VLLM),
        (["--policy", "openai:m@nowhere"], "'m@nowhere' is no endpoint. Write openai:MODEL@URL"),
        (["--policy", "oracle"], "CounterEnv' has no oracle that could play it."),
        (["--policy", "seed", "--samples", "4"], "--samples 4 at temperature 0 would play every task 4 times alike."),
        (["--policy", "random", "--samples", "0"], "Invalid value for '--samples'"),
        (["--policy", "random", "--step-timeout", "0"], "Invalid value for '--step-timeout'"),
        (["--policy", "random", "--split", "test"], "There is no split 'test'."),
        (["--policy", "random", "--panel", "/no/panel.json"], "Cannot read the panel '/no/panel.json'"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_sentence(capsys, options, sentence):
    assert sentence in refused(capsys, "--env", COUNTER, *options)


def test_several_samples_give_pass_at_k(tmp_path, capsys):
    options = ("--env", COUNTER, "--policy", "random", "--samples", "4")
    result = evaluated(tmp_path, *options)
    assert (result["samples"], result["num_episodes"], list(result["pass_at_k"])) == (4, 12, ["1", "2", "4"])
    assert all(len(row["samples"]) == 4 for row in result["tasks"])
    assert "4 samples a task: pass@1 " in capsys.readouterr().out
    assert result["pass_at_k"]["1"]["value"] == pytest.approx(result["success"])


def test_a_model_plays_several_samples_at_a_temperature(tmp_path, model_dir):
    options = ("--env", COUNTER, "--policy", model_dir, "--device", "cpu", "--max-steps", "2")
    result = evaluated(tmp_path, *options, "--samples", "2", "--temperature", "1")
    assert result["num_episodes"] == 6


def test_an_errored_episode_is_counted_apart(tmp_path, capsys):
    result = evaluated(tmp_path, "--env", f"{ENVS}:Flaky", "--policy", "oracle")
    assert (result["num_errors"], result["success"], result["errors"]) == (1, 1.0, {"env_error": 1})
    assert result["tasks"][2]["error"]["type"] == "KeyError"
    assert "1 episodes ended with an error and are not in the rates: 1 env_error" in capsys.readouterr().out


def test_an_environment_that_never_answers_is_a_timeout_and_the_process_ends(tmp_path):
    out = tmp_path / "r.json"
    options = ["--env", f"{ENVS}:Hanging", "--policy", "oracle", "--step-timeout", "0.2", "--out", str(out)]
    command = [sys.executable, "-m", "agentgym_rft.cli.main", "eval", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert [row["stop_reason"] for row in json.loads(out.read_text())["tasks"]] == ["success", "timeout", "success"]


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    log, out = tmp_path / "log", tmp_path / "result.json"
    monkeypatch.setenv("KILLED_ONCE", str(log))
    options = ["--env", f"{ENVS}:KilledOnce", "--policy", "random", "--out", str(out)]
    command = [sys.executable, "-m", "agentgym_rft.cli.main", "eval", *options]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert (tmp_path / "result.json.partial.jsonl").stat().st_size > 500

    assert "seed = 0, now it is 1" in refused(capsys, *options, "--seed", "1")
    assert "max_steps = 50, now it is 9" in refused(capsys, *options, "--max-steps", "9")
    assert log.read_text().splitlines() == ["valid_unseen-0", "valid_unseen-1"]

    assert cli.run(["eval", *options]) == 0
    assert "going on: 1 of 3 episodes are there" in capsys.readouterr().err
    assert log.read_text().splitlines() == [f"valid_unseen-{n}" for n in (0, 1, 1, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "result.json"]
    resumed = json.loads(out.read_text())
    whole = evaluated(tmp_path, *options)
    assert {**resumed, "wall_time_s": 0} == {**whole, "wall_time_s": 0}


def test_ctrl_c_keeps_what_is_finished(tmp_path, capsys):
    out = tmp_path / "result.json"
    args = ["eval", "--env", f"{ENVS}:Interrupted", "--policy", "oracle", "--out", str(out)]
    assert cli.run(args) == 130
    assert "of 3 episodes are kept; the same command goes on." in capsys.readouterr().err
    assert cli.run(args) == 0
    assert json.loads(out.read_text())["success"] == 1.0


def test_other_weights_under_the_same_name_are_refused(tmp_path, model_dir, capsys):
    from agentgym_rft.evaluation.partial import PartialEvaluation

    options = ("--env", COUNTER, "--policy", model_dir, "--device", "cpu", "--max-steps", "2")
    result = evaluated(tmp_path, *options)
    out = tmp_path / "result.json"
    before = result["protocol"] | {"policy": str(model_dir), "weights": "0" * 16, "seed": 0}
    before |= {"max_context": 2048, "step_timeout_s": None}
    PartialEvaluation(tmp_path / "result.json.partial.jsonl", before).close()
    assert "with weights = '0000000000000000', now it is" in refused(capsys, *options, "--out", out)


def test_a_test_task_that_is_a_training_task_is_refused(capsys):
    leaking = ("--env", f"{ENVS}:Leaking", "--policy", "oracle")
    assert "task 'valid_unseen-1' of 'valid_unseen' has the same content as 'train-2' of 'train'" in (
        refused(capsys, *leaking)
    )
    assert cli.run(["eval", *leaking, "--split", "train"]) == 0


@pytest.fixture
def panel(tmp_path_factory, capsys):
    path = tmp_path_factory.mktemp("panels") / "panel.json"
    assert cli.run(["panel", "freeze", "--env", COUNTED, "--tasks", "2", "--out", str(path)]) == 0
    assert f"(2 tasks of valid_unseen): {path}" in capsys.readouterr().out
    return path


def test_a_frozen_panel_is_played_and_shown(tmp_path, panel, capsys):
    result = evaluated(tmp_path, "--panel", panel, "--policy", "oracle", "--trust")
    assert (result["env"], result["num_tasks"], result["held_out_of"]) == (COUNTED, 2, "train")
    by_split = evaluated(tmp_path, "--env", COUNTED, "--tasks", "2", "--policy", "oracle")
    assert by_split["protocol"] == result["protocol"]
    capsys.readouterr()
    assert cli.run(["panel", "show", str(panel)]) == 0
    assert capsys.readouterr().out == panel.read_text()
    assert cli.run(["panel", "show", "--env", COUNTED, "--tasks", "2"]) == 0
    assert capsys.readouterr().out == panel.read_text()


def test_a_panel_with_changed_tasks_is_refused(panel, capsys):
    text = panel.read_text()
    panel.write_text(text.replace("valid_unseen-1", "valid_unseen-2"))
    assert "its panel_hash is not that of its tasks" in refused(capsys, "--panel", panel, "--policy", "oracle")
    panel.write_text(text.replace('"env": "tests.envs.counted_env:Counted"', '"env": "tests.cli.eval_envs:Changed"'))
    assert "Task 'valid_unseen-1' of" in refused(capsys, "--panel", panel, "--policy", "oracle", "--trust")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--split", "train"], "--panel says which tasks are played: leave out --split."),
        (["--tasks", "1"], "--panel says which tasks are played: leave out --tasks."),
        (["--env", "alfworld"], "leave out --env."),
    ],
)
def test_a_panel_leaves_no_choice_of_tasks(panel, capsys, options, sentence):
    assert sentence in refused(capsys, "--panel", panel, "--policy", "oracle", *options)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["panel", "freeze", "--env", COUNTED], "panel freeze writes a new file: name it with --out."),
        (["panel", "freeze", "--env", f"{ENVS}:Leaking", "--out", "DIR/p.json"], "overlap: task 'valid_unseen-1'"),
        (["panel", "freeze", "--env", COUNTED, "--out", "DIR"], "it is a directory"),
        (["panel", "show", "DIR/none.json"], "Cannot read the panel"),
        (["panel", "show", "DIR/none.json", "--env", COUNTED], "takes a file, or --env with --split, not both."),
        (["panel", "show", "--env", COUNTED, "--split", "test"], "There is no split 'test'."),
        (["panel", "thaw"], "Invalid value for"),
    ],
)
def test_a_panel_that_cannot_be_frozen_or_shown_is_refused(tmp_path, capsys, args, sentence):
    assert cli.run([arg.replace("DIR", str(tmp_path)) for arg in args]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
