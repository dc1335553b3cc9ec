import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agentgym_rft

ROOT = Path(agentgym_rft.__file__).parent.parent
HEAVY = (
    "torch",
    "transformers",
    "ray",
    "vllm",
    "tokenizers",
    "matplotlib",
    "alfworld",
    "textworld",
    "pandas",
    "pettingzoo",
)


def _loaded(code):
    """Names of the heavy modules that are loaded after some code in a fresh interpreter."""
    script = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        "import agentgym_rft",
        "import agentgym_rft.envs",
        "import agentgym_rft.cli.main, agentgym_rft.cli.train, agentgym_rft.cli.evaluate, agentgym_rft.cli.play",
        "import agentgym_rft.report.html, agentgym_rft.report.evaluation, agentgym_rft.store.trajectories",
        "import gymnasium, agentgym_rft; gymnasium.spec('agentgym/ALFWorld-v0')",
        "import gymnasium, agentgym_rft; gymnasium.make('agentgym/ALFWorld-v0').reset(seed=0)",
        "from agentgym_rft.envs import make_env; make_env('frozenlake').reset(seed=0)",
    ],
)
def test_importing_loads_nothing_heavy(code):
    assert _loaded(code) == []


def test_the_probe_sees_a_heavy_import():
    assert "tokenizers" in _loaded("import tokenizers")


def test_the_version_is_that_of_the_project():
    pyproject = ROOT / "pyproject.toml"
    if not pyproject.is_file():
        pytest.skip("not a source checkout")
    assert tomllib.loads(pyproject.read_text())["project"]["version"] == agentgym_rft.__version__
