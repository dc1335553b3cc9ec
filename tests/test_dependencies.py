"""Dependencies point one way: a room of the package imports only what lies below it, and no modules form a circle."""

import ast
from pathlib import Path

import pytest

import agentgym_rft
from benchmarks.import_graph import circles, import_graph, imported_names, longest_chain, read_modules, resolve, rooms

ROOT = Path(agentgym_rft.__file__).parent
PACKAGE = "agentgym_rft"
MODULES = read_modules(ROOT, PACKAGE)
GRAPH = import_graph(MODULES)
PACKAGES = sorted({module.rpartition(".")[0] for module in MODULES} - {""})
BENCHMARKS = ROOT.parent / "benchmarks"

BASE = ("core", "errors", "json_text", "registry")
ENVS = ("envs.base", "envs.ended", "envs.forks", "envs.making", "envs.panels", "envs.values")  # no concrete environment
BELOW_ROLLOUTS = (*BASE, "config", "agents", "store", *ENVS)
BELOW_TRAINERS = (*BELOW_ROLLOUTS, "report", "rollouts", "evaluation")
ALL = ("",)


def trainers(*names):
    return tuple(f"trainers.{name}" for name in names)


# What the modules of a room may import of the package, beside the room itself. A longer name goes before a shorter one.
MAY_IMPORT = {
    "__init__": ("registry",),
    "__main__": ("cli",),
    "core": (),
    "errors": (),
    "json_text": ("errors",),
    "registry": ("core", "errors", "config.base"),
    "config": ("core", "errors", "json_text"),
    "envs": BASE,
    "agents": (*BASE, "config"),
    "store": (*BASE, "config", "agents.policies"),
    "report": (*BASE, "__init__", "config.yaml_text", "store", "envs.panels"),
    "rollouts": (*BELOW_ROLLOUTS, "envs.multi_agent", "envs.process", "envs.turns"),
    "serve": (*BASE, "config", "agents", "store", "rollouts"),
    "evaluation": (*BELOW_ROLLOUTS, "report", "rollouts"),
    "trainers": BELOW_TRAINERS,
    # Inside trainers: batch <- algorithms <- learner <- checks <- sources <- loop and run.
    "trainers.batch": (*BASE, "config"),
    "trainers.metrics": (*BELOW_TRAINERS, *trainers("batch")),
    "trainers.algorithms": (*BASE, "config", *trainers("batch")),
    "trainers.learner": (*BELOW_TRAINERS, *trainers("batch", "algorithms")),
    "trainers.sft": (*BELOW_TRAINERS, *trainers("batch", "algorithms", "learner")),
    "trainers.checks": (*BELOW_TRAINERS, *trainers("batch", "algorithms", "learner")),
    "trainers.sources": (*BELOW_TRAINERS, *trainers("batch", "metrics", "algorithms", "learner", "sft", "checks")),
    "cli": ALL,
}
TORCH = ("torch", "transformers", "tokenizers", "safetensors")
WITHOUT = {  # libraries that a room does not import
    "core": (*TORCH, "gymnasium"),
    "errors": (*TORCH, "gymnasium", "numpy"),
    "json_text": (*TORCH, "gymnasium", "numpy"),
    "registry": TORCH,
    "config": TORCH,
    "envs": TORCH,
    "agents": TORCH,
    "agents.policies": (),
    "report": TORCH,
    "evaluation": ("rich", "typer"),  # what is shown, and how, is for the command and the report
}
SHARED_BY_ENVS = ("adapters", "check", "process", "text_search")  # folders of `envs` that are no environment


def within(name, prefix):
    return f"{name}.".startswith(f"{prefix}.") or not prefix


def room_of(module, rules):
    """The longest name with a rule that a module lies in."""
    return max((name for name in rules if within(module, name)), key=len, default=None)


def short(module):
    return module.removeprefix(PACKAGE).lstrip(".") or "__init__"


def violations(module, source):
    """What a file of the package imports although its rules do not let it."""
    room, libraries = room_of(module, MAY_IMPORT), WITHOUT.get(room_of(module, WITHOUT), ())
    bad = []
    for name in imported_names(source):
        target = resolve(name, MODULES)
        if target is not None:
            bad += [short(target)] * (not any(within(short(target), good) for good in (room, *MAY_IMPORT[room])))
        else:
            bad += [library for library in libraries if within(name, library)]
    return bad


def private(name):
    return name.startswith("_") and not name.endswith("__")


def private_definitions(source):
    """The private names of functions, classes, variables and attributes that a file defines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def private_uses(source):
    """The private names that a file takes from elsewhere: imported, or as an attribute of anything but `self`."""
    for name in imported_names(source):
        yield from (part for part in name.split(".") if private(part))
    for node in ast.walk(ast.parse(source)):
        own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if isinstance(node, ast.Attribute) and private(node.attr) and not own:
            yield node.attr


FROM_LIBRARIES = {"_exit", "_cumulative_rewards"}  # of os and PettingZoo; modules of ours define such names, too
OWNERS = {module: set(filter(private, private_definitions(source))) for module, source in MODULES.items()}


def trespasses(module, source):
    """Private names of other modules of the package that a file uses. Those of libraries are not looked at."""
    others = set().union(*(names for owner, names in OWNERS.items() if owner != module))
    return sorted((set(private_uses(source)) - set(private_definitions(source)) - FROM_LIBRARIES) & others)


@pytest.mark.parametrize("module", MODULES, ids=short)
def test_a_module_imports_only_what_lies_below_it(module):
    assert violations(short(module), MODULES[module]) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core", "import torch"),
        ("core", "from agentgym_rft.registry import make"),
        ("envs.alfworld.env", "import torch.nn"),
        ("envs.alfworld.env", "from agentgym_rft.agents.card import AgentCard"),
        ("agents.parse", "from transformers import AutoTokenizer"),
        ("agents.policies.hf", "from agentgym_rft.trainers.loop import train"),
        ("rollouts.episode.run", "def f():\n    from agentgym_rft.trainers import loop"),
        ("store.checkpoint", "from agentgym_rft.rollouts.seats import trained_seats"),
        ("report.html", "from agentgym_rft.evaluation import panel"),
        ("serve.gateway", "from agentgym_rft.trainers.loop import train"),
        ("evaluation.run", "from agentgym_rft.cli import evaluate"),
        ("evaluation.run", "from agentgym_rft.trainers.run import build"),
        ("evaluation.run", "import typer"),
        ("trainers.loop", "from agentgym_rft.envs.alfworld.env import ALFWorldEnv"),
        ("trainers.loop", "from agentgym_rft.cli.train import train_command"),
        ("trainers.loop", "from agentgym_rft.serve.gateway import Gateway"),
        ("trainers.batch.table", "from agentgym_rft.trainers.algorithms import parts"),
        ("trainers.algorithms.grpo", "from agentgym_rft.trainers.learner.learner import Learner"),
        ("trainers.learner.update", "from agentgym_rft.trainers import checks"),
        ("trainers.checks", "from agentgym_rft.trainers.sources.make import make_source"),
        ("trainers.sources.make", "from agentgym_rft.trainers import loop"),
    ],
)
def test_the_rule_finds_a_planted_violation(module, line):
    assert len(violations(module, line)) == 1


def test_the_rule_lets_good_imports_pass():
    assert violations("agents.policies.hf", "import torch\nfrom agentgym_rft.core import Turn") == []
    assert violations("trainers.loop", "from agentgym_rft.envs.base import TextEnv") == []
    assert violations("trainers.loop", "from agentgym_rft.trainers import run") == []
    assert violations("envs.check.run", "from agentgym_rft import registry") == []
    assert violations("evaluation.run", "from agentgym_rft.report.evaluation import summarise") == []


def test_the_package_has_no_circle_of_imports():
    assert circles(GRAPH) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_rooms_of_a_package_have_no_circle(package):
    assert circles(rooms(GRAPH, package)) == []


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="not a source checkout")
def test_the_benchmarks_have_no_circle():
    assert circles(import_graph(read_modules(BENCHMARKS))) == []


def test_a_planted_circle_is_found_through_functions_and_packages():
    sources = {
        "a": "",
        "a.b": "import a.b.c\n",
        "a.b.c": "def f():\n    from a import d\n",
        "a.d": "from a.b.e import g",
        "a.b.e": "import a.b",
        "a.f": "from a.d import g\nimport a.b.c",
    }
    graph = import_graph(sources)
    assert graph["a.b.c"] == {"a.d"}
    assert circles(graph) == [["a.b", "a.b.c", "a.b.e", "a.d"]]
    assert circles(rooms(graph, "a")) == [["b", "d"]]
    assert longest_chain(graph) == ["a.b", "a.f"]  # a circle counts once
    assert longest_chain(import_graph(sources | {"a.b.c": ""})) == ["a.b.c", "a.b", "a.b.e", "a.d", "a.f"]
    assert circles(import_graph(MODULES | {"agentgym_rft.errors": "from agentgym_rft.cli import main"})) != []


def test_what_environments_share_lies_in_no_folder_of_one_of_them():
    graph = rooms(GRAPH, "agentgym_rft.envs")
    folders = {path.parent.name for path in (ROOT / "envs").glob("*/__init__.py")}
    environments = folders - set(SHARED_BY_ENVS)
    assert len(environments) > 5
    assert [(node, target) for node in graph.keys() - environments for target in graph[node] & environments] == []
    built_on = {("household_team", "alfworld")}  # its teams play ALFWorld's houses
    pairs = {(node, target) for node in environments for target in graph[node] & environments}
    assert {(node, target) for node, target in pairs if node != target} == built_on


@pytest.mark.parametrize("module", MODULES, ids=short)
def test_a_module_uses_no_private_name_of_another(module):
    assert trespasses(module, MODULES[module]) == []


@pytest.mark.parametrize(
    "line",
    [
        "from agentgym_rft.registry import _EnvRegistry",
        "from agentgym_rft import registry\nregistry._EnvRegistry()",
        "def f(engine):\n    return engine._running",
    ],
)
def test_the_use_of_a_private_name_is_found(line):
    assert len(trespasses("agentgym_rft.cli.main", line)) == 1


def test_private_names_of_a_file_itself_and_of_libraries_pass():
    assert trespasses("agentgym_rft.cli.main", "def _f(): ...\nother._f()\nself._running\nconfig._attn") == []
