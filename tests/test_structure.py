"""benchmarks/structure.py counts what lies in a checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/structure.py"
FILES = {
    "agentgym_rft/__init__.py": "import json",
    "agentgym_rft/core.py": "",
    "agentgym_rft/envs/__init__.py": "",
    "agentgym_rft/envs/base.py": "from agentgym_rft import core\n",
    "agentgym_rft/envs/check/__init__.py": "",
    "agentgym_rft/envs/check/run.py": "def f():\n    from agentgym_rft.envs import making\n" + "    x = 1\n" * 40,
    "agentgym_rft/envs/making.py": "from agentgym_rft.envs.check.run import f\nfrom agentgym_rft.envs import base\n",
    "benchmarks/speed.py": "import machine\n",
    "benchmarks/machine.py": "x = 1\n" * 301,
    "tests/test_core.py": "\n" * 3,
}


@pytest.mark.skipif(not SCRIPT.is_file(), reason="not a source checkout")
def test_the_table_counts_modules_levels_circles_and_lines(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, str(SCRIPT), "--repeats=1", str(tmp_path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = dict(
        line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and not line.startswith("|  |")
    )
    assert 0 <= float(rows.pop("import of the package: processor seconds")) < 5
    counts = {name: value for name, value in rows.items() if not name.startswith("`agentgym_rft")}
    assert counts == {
        "---": "---",
        "room": f"`{tmp_path}` (no revision)",
        "package: modules": "7",
        "package: levels of modules": "3",  # core, base, making in a circle with run
        "package: levels of rooms": "2",
        "package: circles": "1 (of 2 modules)",
        "`benchmarks/`: modules": "2",
        "`benchmarks/`: levels": "2",
        "`benchmarks/`: circles": "0",
        "package: lines": "46",
        "tests: lines": "3",
        "package: files over 300 lines": "0",
        "package: functions over 40 lines": "1",
        "imported with it, of torch, transformers, ray, pettingzoo": "none",
    }
    assert rows["`agentgym_rft/`"] == "1 file + 1 room on 2 levels; 7 modules on 3"
    assert rows["`agentgym_rft/envs/`"] == "2 files + 1 room on 2 levels; 5 modules on 2"
    assert lines[-2].endswith("`envs.check.run.f`.")
