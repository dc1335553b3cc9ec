"""What the command line says to a bad input, and that nothing it refuses is in the way of the next try."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentgym_rft.cli import main as cli
from agentgym_rft.cli.settings import read_run_config
from agentgym_rft.config.load import load_config
from agentgym_rft.store.checkpoint import load_checkpoint
from agentgym_rft.store.run_dir import opened
from tests.cli.bad_inputs import CASES, ENV, PAGE, QUICK, call, make_place, message_of, rows

ALL = {case.what: case for cases in CASES.values() for case in cases}
BROKEN = "tests.cli.bad_inputs:Broken"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def listed():
    return rows(PAGE.read_text(encoding="utf-8"))


def _train(good, out, *more, env=ENV):
    return ["train", "--env", env, "--policy", good.policy, "--out", out, *QUICK, *more]


def test_the_page_lists_every_bad_input_once(listed):
    assert list(listed) == list(ALL)
    assert sum(len(cases) for cases in CASES.values()) == len(ALL)


@pytest.mark.parametrize("what", ALL)
def test_a_bad_input_is_answered_with_the_sentence_in_the_docs(what, good, listed, tmp_path):
    if "lora" in what:
        pytest.importorskip("peft")
    case = ALL[what]
    code, error = message_of(case, good, tmp_path / "case")
    listed_code, message = listed[what]
    assert code == listed_code == case.code
    assert error.endswith("\n")
    assert error.count("\n") == 1, "one line, no traceback"
    if case.quotes:
        assert case.quotes in message
        message = message[: message.index(case.quotes)]
        assert error.startswith(message)
    else:
        assert error == f"{message}\n"
    if code == 2:
        assert not (tmp_path / "case" / "new" / "config.yaml").exists(), "a refused run leaves none behind"


def test_without_a_command_the_help_is_shown_and_nothing_else(capsys):
    assert cli.run([]) == 2
    out, err = capsys.readouterr()
    assert "train" in out
    assert err == ""


def test_a_run_that_failed_before_its_first_step_can_be_started_again_in_its_place(good, tmp_path):
    out = tmp_path / "run"
    assert call(_train(good, out, "--env.options.fault=reset", "--eval.num_tasks=2", env=BROKEN))[0] == 1
    assert (out / "config.yaml").is_file()
    assert call(_train(good, out, "--steps", "1", "--eval.num_tasks=0")) == (0, "")
    assert not (out / "evaluations").exists(), "no evaluation of the failed start is left"


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(good, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(good.run, run)
    weights = run / "checkpoints" / "step-000002" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        code, _ = call(["train", "--resume", run])
    assert code == 0
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("agentgym_rft")]
    assert message == (
        f"Checkpoint '{run}/checkpoints/step-000002' is damaged and skipped: "
        "model/model.safetensors has changed since it was written."
    )
    assert load_checkpoint(run / "checkpoints").step == 2, "the second step was done again"


def test_a_run_that_was_killed_in_its_first_save_starts_again(good, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(good.run, run)
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.rename(checkpoint.with_name(f".draft-{checkpoint.name}"))
    assert cli.run(["train", "--resume", str(run)]) == 0
    assert "The run has no checkpoint yet, so it starts again." in capsys.readouterr().out
    assert load_checkpoint(run / "checkpoints").step == 2


def test_a_complete_run_says_so_when_it_is_resumed(good, tmp_path, capsys):
    shutil.copytree(good.run, tmp_path / "run")
    assert cli.run(["train", "--resume", str(tmp_path / "run")]) == 0
    assert "All of its 2 steps are done. Give it more with --steps." in capsys.readouterr().out


def test_a_panel_larger_than_the_split_is_the_whole_split(good, capsys):
    args = ["eval", "--policy", str(good.run), "--tasks", "1000", "--device", "cpu"]
    assert cli.run(args) == 0
    assert "(30 tasks)" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["new", "resume"])
def test_a_directory_is_written_by_one_run_at_a_time(good, tmp_path, command):
    run = tmp_path / "run"
    if command == "resume":
        shutil.copytree(good.run, run)
    args = _train(good, run) if command == "new" else ["train", "--resume", run, "--steps", "3"]
    with opened(run, load_config(), is_new=command == "new"):
        if command == "resume":
            shutil.copy(good.run / "config.yaml", run)
        code, error = call(args)
    assert code == 2
    assert error == f"Another process is writing to '{run}'. Wait for it, or choose another --out.\n"


def test_a_second_ctrl_c_ends_a_run_at_once_with_one_word(good, tmp_path):
    out = tmp_path / "run"
    args = _train(good, out, "--eval.num_tasks=0", env="tests.cli.bad_inputs:PressesCtrlC")
    command = [sys.executable, "-m", "agentgym_rft.cli.main", *map(str, args)]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (130, "Interrupted.\n")
    assert "Press Ctrl-C again to stop at once." in result.stdout
    assert call(_train(good, out, "--steps", "1")) == (0, "")


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    """The output of `agentgym sft`."""
    out = tmp_path_factory.mktemp("sft") / "out"
    sizes = "--model.vocab_size=300 --model.hidden_size=16 --model.intermediate_size=16 --model.num_layers=1"
    more = "--model.num_heads=1 --model.head_dim=16 --model.max_context=64 --sft.tokens=200 --sft.batch_tokens=100"
    args = ["sft", "--env", ENV, "--out", out, "--device", "cpu", "--num_threads", "1", "--sft.tokenizer_episodes=2"]
    assert call([*args, *sizes.split(), *more.split()]) == (0, "")
    return out


def test_train_and_eval_take_what_sft_and_train_made(good, supervised, tmp_path):
    newest = good.run / "checkpoints" / "step-000002" / "model"
    names = {
        supervised: supervised / "model",
        supervised / "model": supervised / "model",
        good.run: newest,
        newest.parent: newest,
    }
    for number, (name, model) in enumerate(names.items()):
        out = tmp_path / str(number)
        args = ["train", "--env", ENV, "--policy", name, "--out", out, "--steps", "1", *QUICK]
        assert call(args) == (0, "")
        assert read_run_config(out)["policy"]["path"] == str(model)
        args = ["eval", "--env", ENV, "--policy", name, "--tasks", "1", "--device", "cpu", "--max-context", "64"]
        assert cli.run([*map(str, args), "--out", str(out / "eval.json")]) == 0


def test_a_supervised_run_is_neither_overwritten_nor_resumed_as_another(supervised, good):
    before = (supervised / "config.yaml").read_text()
    for args in (["sft", "--env", ENV, "--out", supervised], _train(good, supervised)):
        code, error = call(args)
        assert code == 2
        assert "holds a run already" in error
    assert call(["train", "--resume", supervised]) == (
        2,
        f"'{supervised}' holds a supervised run. Go on with: agentgym sft --resume {supervised}\n",
    )
    assert (supervised / "config.yaml").read_text() == before


@pytest.mark.alfworld
def test_the_real_engine_leaves_generated_games_the_default(monkeypatch):
    pytest.importorskip("textworld")
    pytest.importorskip("alfworld.info")
    os.environ.pop("ALFWORLD_DATA", None)  # which that import sets
    for name in [name for name in sys.modules if name.partition(".")[0] == "alfworld"]:
        monkeypatch.delitem(sys.modules, name)
    from agentgym_rft.envs.alfworld.env import ALFWorldEnv

    env = ALFWorldEnv(backend="textworld")
    env.reset(options={"task_id": env.task_ids("train")[0]})
    assert "ALFWORLD_DATA" not in os.environ
