"""Dependencies point one way: a part of the package imports only what lies below it."""

import ast
from pathlib import Path

import pytest

import agentgym_rft

ROOT = Path(agentgym_rft.__file__).parent
TORCH = ("torch", "transformers", "tokenizers", "safetensors")

# What the modules that start with a prefix may not import. Longer prefixes replace shorter ones.
FORBIDDEN = {
    "core": ("agentgym_rft.", *TORCH, "gymnasium"),
    "errors": ("agentgym_rft.", *TORCH, "gymnasium", "numpy"),
    "registry": ("agentgym_rft.envs", "agentgym_rft.agents", "agentgym_rft.rollouts", "agentgym_rft.trainers", *TORCH),
    "config": ("agentgym_rft.envs", "agentgym_rft.agents", "agentgym_rft.rollouts", "agentgym_rft.trainers", *TORCH),
    "section": ("agentgym_rft.", *TORCH),
    "team_sections": ("agentgym_rft.", *TORCH),
    "sections": ("agentgym_rft.", *TORCH),
    "sft_sections": ("agentgym_rft.", *TORCH),
    "envs": ("agentgym_rft.agents", "agentgym_rft.rollouts", "agentgym_rft.trainers", "agentgym_rft.cli", *TORCH),
    "agents": ("agentgym_rft.envs", "agentgym_rft.rollouts", "agentgym_rft.trainers", "agentgym_rft.cli", *TORCH),
    "agents.policies": ("agentgym_rft.envs", "agentgym_rft.rollouts", "agentgym_rft.trainers", "agentgym_rft.cli"),
    "rollouts": ("agentgym_rft.trainers", "agentgym_rft.cli", "agentgym_rft.envs."),
    "trainers": ("agentgym_rft.cli", "agentgym_rft.envs."),
    "serve": ("agentgym_rft.envs", "agentgym_rft.trainers", "agentgym_rft.cli"),
    "store": ("agentgym_rft.envs", "agentgym_rft.rollouts", "agentgym_rft.trainers", "agentgym_rft.cli"),
    "report": ("agentgym_rft.agents", "agentgym_rft.rollouts", "agentgym_rft.trainers", "agentgym_rft.cli", *TORCH),
}
ALLOWED = {
    "core": (),
    "errors": (),
    "team_sections": ("agentgym_rft.config.base",),
    "sections": ("agentgym_rft.config.base", "agentgym_rft.config.team"),
    "sft_sections": ("agentgym_rft.config.base", "agentgym_rft.config.run", "agentgym_rft.config.team"),
    # The contract, making, processes and the panels are for all; what is forbidden is naming a concrete environment.
    "rollouts": (
        "agentgym_rft.envs.base",
        "agentgym_rft.envs.making",
        "agentgym_rft.envs.multi_agent",
        "agentgym_rft.envs.panels",
        "agentgym_rft.envs.process.env",
        "agentgym_rft.envs.process.pool",
        "agentgym_rft.envs.turns",
    ),
    "trainers": ("agentgym_rft.envs.base", "agentgym_rft.envs.making", "agentgym_rft.envs.panels"),
}


def imports(source):
    """Names of all modules that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def area_of(module):
    """The longest prefix with a rule that a module name, without `agentgym_rft.`, starts with."""
    parts = module.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in FORBIDDEN), None)


def violations(module, source):
    area = area_of(module)
    if area is None:
        return []
    allowed = {"agentgym_rft.errors", *ALLOWED.get(area, ())}
    return [
        name
        for name in imports(source)
        if name not in allowed and any(f"{name}.".startswith(f"{bad.rstrip('.')}.") for bad in FORBIDDEN[area])
    ]


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_module_imports_only_what_lies_below_it(module, path):
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core", "import torch"),
        ("core", "from agentgym_rft.registry import make"),
        ("envs.alfworld.env", "import torch.nn"),
        ("envs.alfworld.env", "from agentgym_rft.agents.card import AgentCard"),
        ("agents.parse", "from transformers import AutoTokenizer"),
        ("agents.policies.hf", "from agentgym_rft.trainers.loop import train"),
        ("rollouts.episode", "def f():\n    from agentgym_rft.trainers import loop"),
        ("trainers.loop", "from agentgym_rft.envs.alfworld.env import ALFWorldEnv"),
        ("trainers.loop", "from agentgym_rft.cli.train import train_command"),
    ],
)
def test_the_rule_finds_a_planted_violation(module, line):
    assert len(violations(module, line)) == 1


def test_the_rule_lets_good_imports_pass():
    assert violations("agents.policies.hf", "import torch\nfrom agentgym_rft.core import Turn") == []
    assert violations("trainers.loop", "from agentgym_rft.envs.base import TextEnv") == []
    assert violations("envs.check", "from agentgym_rft import registry") == []
