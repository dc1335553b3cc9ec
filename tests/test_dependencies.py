"""Dependencies point one way: a part of the package imports only what lies below it."""

import ast
from pathlib import Path

import pytest

import agentgym_rft

ROOT = Path(agentgym_rft.__file__).parent
TORCH = ("torch", "transformers", "tokenizers", "safetensors")

ABOVE_ENVS = ("agentgym_rft.agents", "agentgym_rft.rollouts", "agentgym_rft.evaluation", "agentgym_rft.trainers")
ABOVE_ROLLOUTS = ("agentgym_rft.evaluation", "agentgym_rft.trainers", "agentgym_rft.cli")
TERMINAL = ("rich", "typer")  # what is shown, and how, is for the command and the report
NO_ENV = "agentgym_rft.envs."  # a concrete environment; what all may use stands in ALLOWED


def trainers(*rooms):
    return tuple(f"agentgym_rft.trainers.{room}" for room in rooms)


# What the modules that start with a prefix may not import. Longer prefixes replace shorter ones.
FORBIDDEN = {
    "core": ("agentgym_rft.", *TORCH, "gymnasium"),
    "errors": ("agentgym_rft.", *TORCH, "gymnasium", "numpy"),
    "registry": ("agentgym_rft.envs", *ABOVE_ENVS, *TORCH),
    "config": ("agentgym_rft.envs", *ABOVE_ENVS, "agentgym_rft.cli", *TORCH),
    "envs": (*ABOVE_ENVS, "agentgym_rft.cli", *TORCH),
    "agents": ("agentgym_rft.envs", "agentgym_rft.rollouts", *ABOVE_ROLLOUTS, *TORCH),
    "agents.policies": ("agentgym_rft.envs", "agentgym_rft.rollouts", *ABOVE_ROLLOUTS),
    "store": ("agentgym_rft.envs", "agentgym_rft.rollouts", *ABOVE_ROLLOUTS),
    "report": ("agentgym_rft.agents", "agentgym_rft.rollouts", *ABOVE_ROLLOUTS, *TORCH),
    "serve": ("agentgym_rft.envs", *ABOVE_ROLLOUTS),
    "rollouts": (*ABOVE_ROLLOUTS, NO_ENV),
    "evaluation": ("agentgym_rft.trainers", "agentgym_rft.cli", NO_ENV, *TERMINAL),
    "trainers": ("agentgym_rft.cli", NO_ENV),
    # Inside trainers: batch <- algorithms <- learner <- checks <- sources <- loop.
    "trainers.batch": (
        "agentgym_rft.cli",
        NO_ENV,
        *trainers("algorithms", "learner", "checks", "sources", "sft", "run", "loop"),
    ),
    "trainers.algorithms": (
        "agentgym_rft.cli",
        NO_ENV,
        *trainers("learner", "checks", "sources", "sft", "run", "loop"),
    ),
    "trainers.learner": ("agentgym_rft.cli", NO_ENV, *trainers("checks", "sources", "sft", "run", "loop")),
    "trainers.checks": ("agentgym_rft.cli", NO_ENV, *trainers("sources", "sft", "run", "loop")),
    "trainers.sources": ("agentgym_rft.cli", NO_ENV, *trainers("run", "loop")),
    "trainers.sft": ("agentgym_rft.cli", NO_ENV, *trainers("sources", "checks", "run", "loop")),
}
ENVS_FOR_ALL = ("agentgym_rft.envs.base", "agentgym_rft.envs.making", "agentgym_rft.envs.panels")
ALLOWED = {
    "core": (),
    "errors": (),
    "rollouts": (
        *ENVS_FOR_ALL,
        "agentgym_rft.envs.multi_agent",
        "agentgym_rft.envs.process.env",
        "agentgym_rft.envs.process.pool",
        "agentgym_rft.envs.turns",
    ),
    "evaluation": ENVS_FOR_ALL,
    "trainers": ENVS_FOR_ALL,
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
    allowed = {"agentgym_rft.errors", *ALLOWED.get(area, ALLOWED.get(area.partition(".")[0], ()))}
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
        ("rollouts.episode.single", "def f():\n    from agentgym_rft.trainers import loop"),
        ("trainers.loop", "from agentgym_rft.envs.alfworld.env import ALFWorldEnv"),
        ("trainers.loop", "from agentgym_rft.cli.train import train_command"),
        ("evaluation.run", "from agentgym_rft.trainers.run import build"),
        ("evaluation.run", "import typer"),
    ],
)
def test_the_rule_finds_a_planted_violation(module, line):
    assert len(violations(module, line)) == 1


def test_the_rule_lets_good_imports_pass():
    assert violations("agents.policies.hf", "import torch\nfrom agentgym_rft.core import Turn") == []
    assert violations("trainers.loop", "from agentgym_rft.envs.base import TextEnv") == []
    assert violations("envs.check.run", "from agentgym_rft import registry") == []
    assert violations("evaluation.run", "from agentgym_rft.report.evaluation import summarise") == []
