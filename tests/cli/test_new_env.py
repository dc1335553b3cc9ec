"""The skeleton works as it is written, and nothing is overwritten."""

import os
import subprocess
import sys
from pathlib import Path

import agentgym_rft

ROOT = Path(agentgym_rft.__file__).parent.parent


def call(folder, *args):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", *args]
    return subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def test_a_new_environment_keeps_the_contract_and_passes_its_test(tmp_path):
    made = call(tmp_path, "agentgym_rft.cli.main", "new-env", "secret_word")
    assert made.stdout.splitlines() == [
        "wrote secret_word.py",
        "wrote test_secret_word.py",
        "next: agentgym check-env secret_word:SecretWord",
    ]
    checked = call(tmp_path, "agentgym_rft.cli.main", "check-env", "secret_word:SecretWord", "--quick")
    assert checked.returncode == 0, checked.stdout
    tested = call(tmp_path, "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout


def test_existing_files_stay(tmp_path):
    for file in ("first.py", "test_second.py"):
        (tmp_path / file).write_text("mine")
    for name, file in (("first", "first.py"), ("second", "test_second.py")):
        result = call(tmp_path, "agentgym_rft.cli.main", "new-env", name)
        assert result.returncode == 2
        assert result.stderr == f"'{file}' exists already and is left as it is: choose another name.\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "first.py": "mine",
        "test_second.py": "mine",
    }
