"""The worked example of a user's environment passes its own tests and is found by its entry point."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import agentgym_rft
from agentgym_rft import registry

ROOT = Path(agentgym_rft.__file__).parent.parent
FOLDER = ROOT / "envs" / "custom"


def test_the_worked_example_passes_its_own_tests():
    paths = os.pathsep.join([str(ROOT), str(FOLDER), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(FOLDER),
    ]
    env = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [*command, str(FOLDER / "test_lost_keys.py")], env=env, cwd=FOLDER, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
    assert "3 passed" in result.stdout


def test_its_entry_point_names_its_class(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((id, path),) = project["entry-points"][registry.ENV_GROUP].items()
    assert id == "custom/LostKeys-v0"
    assert registry.load_object(path).__name__ == "LostKeys"
