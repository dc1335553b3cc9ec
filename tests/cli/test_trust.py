"""What a file names and the command line does not is used only with `--trust`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import typer

from agentgym_rft.cli.main import run
from agentgym_rft.cli.trust import check_trust, needs_trust
from agentgym_rft.config.load import validate_config, validate_sft_config
from agentgym_rft.envs.panels import Panel, hash_of, panel_text
from agentgym_rft.errors import ConfigError

URL = "https://elsewhere.example/v1"
TOUCHES = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"


@pytest.fixture(autouse=True)
def remembers(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "agentgym_rft" / "trusted.jsonl"


@pytest.fixture
def given(tmp_path, monkeypatch) -> Path:
    """A folder that was given: a run, and beside it a module that its configuration names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "given_module", raising=False)
    (tmp_path / "given_module.py").write_text(TOUCHES)
    (tmp_path / "run" / "trajectories").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("env: {id: 'given_module:Env'}\n")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "stages.yaml").write_text(
        "env: {id: 'given_module:Env'}\nstages: [{name: one, trainer: {steps: 1}}]\n"
    )
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "config.yaml").write_text("env: {id: 'given_module:Env'}\nsft: {tokens: 10}\n")
    panel = Panel("given_module:Env", "test", ("a",), hash_of(("a",), ("00",)), ("00",))
    (tmp_path / "panel.json").write_text(panel_text(panel))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "train --recipe run/config.yaml",
        "train --recipe stages/stages.yaml",
        "train --resume run",
        "train --resume stages",
        "sft --resume sft",
        "sft --recipe sft/config.yaml",
        "eval --policy run",
        "eval --policy random --panel panel.json",
        "bench run",
        "explore --follow run",
        "replay run/trajectories/step_000001.jsonl.zst",
    ],
)
def test_no_code_that_a_file_names_is_run(command, given, capsys):
    assert run(command.split()) == 2
    error = capsys.readouterr().err
    assert "names code to run, 'given_module:Env', and this command line does not. Read that first" in error
    assert not (given / "given_module.ran").exists()


def test_it_is_run_where_the_user_says_so(given, capsys):
    assert run(["eval", "--policy", "run", "--trust"]) == 2
    assert "Module 'given_module' has no 'Env'" in capsys.readouterr().err
    assert (given / "given_module.ran").exists()


def test_looking_at_a_run_runs_nothing(given):
    assert run(["view", "run"]) == 0
    assert run(["report", "run"]) == 0
    assert not (given / "given_module.ran").exists()


def test_all_that_names_code_or_gets_a_key_is_known():
    data = {
        "env": {"id": "a:Env"},
        "algorithm": {"name": "a:algorithm", "controls": ["a:control", {"name": "a:other", "mu": 2}]},
        "rollout": {
            "strategy": "a:strategy",
            "operators": [{"name": "a:operator"}],
            "reflect": {"reflector": f"openai:m@{URL}"},
            "workers": "ray",
            "ray": {"address": "elsewhere.example:6379"},
        },
    }
    config = validate_config(data)
    code = {"a:Env", "a:algorithm", "a:control", "a:other", "a:strategy", "a:operator"}
    assert set(needs_trust(config)) == {*code, URL, "elsewhere.example:6379"}
    assert set(needs_trust(config, trains=False)) == {"a:Env", "elsewhere.example:6379"}
    assert set(needs_trust(validate_sft_config({"env": {"id": "a:Env"}}))) == {"a:Env"}
    assert not needs_trust(validate_config({}))


def test_an_address_that_only_a_file_names_gets_no_key(monkeypatch):
    config = validate_config({"rollout": {"reflect": {"reflector": f"openai:m@{URL}"}}})
    with pytest.raises(ConfigError, match="an address to send texts and OPENAI_API_KEY to, 'https://elsewhere"):
        check_trust(config, "r.yaml", (), trust=False)
    check_trust(config, "r.yaml", [(("rollout", "reflect", "reflector"), f"openai:another@{URL}")], trust=False)
    check_trust(config, "r.yaml", (), trust=True)
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    check_trust(config, "r.yaml", (), trust=False)


def test_what_was_said_once_is_remembered_for_its_folder(remembers, tmp_path, monkeypatch):
    config = validate_config({"env": {"id": "a:Env"}})
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    check_trust(config, None, [(("env", "id"), "a:Env")], trust=False)
    for _ in range(2):
        check_trust(config, "run", (), trust=False)
    assert len(remembers.read_text().splitlines()) == 1
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(ConfigError):
        check_trust(config, "run", (), trust=False)
    check_trust(config, "run", (), trust=True)
    check_trust(config, "run", (), trust=False)


def test_a_damaged_memory_is_no_trust(remembers):
    config = validate_config({"env": {"id": "a:Env"}})
    remembers.parent.mkdir(parents=True)
    folder = json.dumps(os.getcwd())
    remembers.write_bytes(f'[{folder}, "a:En\n{{}}\n"a:Env"\n[1, 2, 3]\n{"[" * 5000}\n[{folder}, "a:Other"]\n'.encode())
    with pytest.raises(ConfigError):
        check_trust(config, "run", (), trust=False)
    remembers.write_bytes(b"\xff")
    with pytest.raises(ConfigError):
        check_trust(config, "run", (), trust=False)


@pytest.mark.parametrize("answer", [True, False])
def test_a_terminal_is_asked(answer, monkeypatch):
    asked = []

    def confirm(text, err):
        asked.append(text)
        return answer

    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    config = validate_config({"env": {"id": "a:Env"}})
    if answer:
        check_trust(config, "run", (), trust=False)
    else:
        with pytest.raises(ConfigError):
            check_trust(config, "run", (), trust=False)
    assert asked == ["'run' names code to run, 'a:Env', and this command line does not. Use it?"]
