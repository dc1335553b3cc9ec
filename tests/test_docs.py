"""The documentation says what the code does: commands, options, keys, metrics, examples and links."""

import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import typer
import yaml

from agentgym_rft.agents.card import ActionCard, AgentCard, ContextCard, ReflectCard
from agentgym_rft.cli.main import COMMANDS, make_app
from agentgym_rft.config.leaves import leaves, shown, type_name
from agentgym_rft.config.old_keys import OLD_KEYS
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.envs import check_env
from agentgym_rft.envs.check.run import RULES
from agentgym_rft.trainers.algorithms import ALGORITHMS
from agentgym_rft.trainers.algorithms.entropy.controls import CONTROLS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    *(page for folder in ("envs", "agentgym_rft") for page in sorted((ROOT / folder).rglob("*.md"))),
]
ROOTS = ("agentgym_rft", "agents", "benchmarks", "docs", "envs", "tests", "trainers")
ELSEWHERE = {  # files that a reader is told to write, and folders in the user's cache
    *("guess.py", "guess_number.py", "my_env.py", "my_algorithm.py", "my_parts.py"),
    *("agentgym_rft/textworld", "agentgym_rft/webshop"),
}
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`[^`\n]+`")
MAPPINGS = ("env.options.", "agent.overrides.", "algorithm.options.")


def blocks(page, language):
    """The code blocks of a language in a page."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def commands():
    """Every `agentgym` command in a shell block, as page and words."""
    for page in PAGES:
        for line in "\n".join(blocks(page, "sh")).splitlines():
            words = shlex.split(line, comments=True)
            if "agentgym" in words:
                yield page.name, tuple(words[words.index("agentgym") + 1 :])


@pytest.mark.parametrize(("page", "words"), sorted(set(commands())))
def test_every_command_in_the_documentation_has_the_options_it_is_shown_with(page, words):
    name, *rest = words
    assert name in COMMANDS
    command = typer.main.get_command(make_app(name)).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert {option for option in given - known if not option[2:].startswith(MAPPINGS)} == set()


@pytest.mark.parametrize("model", [Config, SftConfig])
def test_the_configuration_page_lists_every_key_with_type_and_default(model):
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    rows = []
    for leaf in leaves(model):
        kind = type_name(leaf.annotation).replace("|", "\\|")
        key = f"**`{leaf.name}`**" if leaf.is_main else f"`{leaf.name}`"
        rows.append(f"| {key} | {kind} | `{shown(leaf.default)}` | ")
    assert [row for row in rows if row not in page] == []


def test_the_configuration_page_lists_no_other_key():
    page, _, old = (
        (ROOT / "docs/configuration.md").read_text(encoding="utf-8").partition("\n## Keys of earlier versions\n")
    )
    known = {leaf.name for model in (Config, SftConfig) for leaf in leaves(model)}
    assert set(re.findall(r"^\| (?:\*\*)?`([\w.]+)`(?:\*\*)? \|", page, re.MULTILINE)) == known
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| (?:none|`([\w.]+)`) \| (.*) \|$", old, re.MULTILINE)
    assert rows == [(name, key.new, key.advice) for name, key in OLD_KEYS.items()]


def test_the_agents_page_lists_every_field_of_a_card():
    page = (ROOT / "docs/agents.md").read_text(encoding="utf-8")
    parts = {"action.": ActionCard, "context.": ContextCard, "reflect.": ReflectCard, "": AgentCard}
    fields = {prefix + name for prefix, part in parts.items() for name in part.model_fields}
    fields -= {"action", "context", "reflect"}
    _, _, table = page.partition("\n## Card fields\n")
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == fields


def test_the_algorithms_page_has_a_row_for_every_algorithm():
    page = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8")
    assert [name for name in ALGORITHMS if page.count(f"\n| `{name}` |") != 2] == []


def test_the_algorithms_page_has_both_rows_and_every_option_of_every_entropy_control():
    page = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8")
    section = page.partition("\n## Entropy controls\n")[2].partition("\n## ")[0]
    for name, control in CONTROLS.items():
        rows = re.findall(rf"^\| `{name}` \|.*$", section, re.MULTILINE)
        assert len(rows) == 2, name
        assert [option for option in control.options.model_fields if f"`{option}` " not in rows[0]] == []
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert listed == set(CONTROLS)


@pytest.mark.parametrize("module", ["loop", "metrics", "learner/metrics"])
def test_the_algorithms_page_explains_every_metric(module):
    source = (ROOT / f"agentgym_rft/trainers/{module}.py").read_text(encoding="utf-8")
    metrics = set(re.findall(r'"([a-z]+/[a-z_]+)"', source))
    assert len(metrics) > 5
    _, _, page = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8").partition("\n## Metrics\n")
    assert [metric for metric in sorted(metrics) if f"`{metric}`" not in page] == []


def test_the_algorithms_page_explains_the_entropy_metrics():
    files = [ROOT / f"agentgym_rft/trainers/learner/{module}.py" for module in ("entropy_dynamics", "entropy_probe")]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    names = set(re.findall(r'"(entropy/[a-z_]+)[{"]', source))  # or how they begin
    assert len(names) > 5
    _, _, page = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8").partition("\n## Metrics\n")
    assert [name for name in sorted(names) if f"`{name}" not in page] == []


def example(start):
    """The Python block of the environments page that starts so."""
    (code,) = (block for block in blocks("docs/environments.md", "python") if block.startswith(start))
    return code


@pytest.mark.parametrize(
    ("start", "env"),
    [("import gymnasium as gym\n\n\nclass", "guess:Guess"), ('"""Guess a number', "guess_number:GuessNumber")],
)
def test_an_example_environment_keeps_the_contract(tmp_path, monkeypatch, start, env):
    (tmp_path / f"{env.partition(':')[0]}.py").write_text(example(start), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(check_env(env)) == len(RULES)


def test_the_shortest_environment_has_at_most_fifteen_lines_and_is_in_the_readme():
    code = example("import gymnasium as gym\n\n\nclass")
    assert len([line for line in code.splitlines() if line]) <= 15
    assert code in blocks("README.md", "python")


def test_the_table_of_rules_is_complete():
    _, _, section = (
        (ROOT / "docs/environments.md").read_text(encoding="utf-8").partition("\n## Checking an environment\n")
    )
    table = section.partition("\n## ")[0]
    assert re.findall(r"^\| ([a-z -]+) \|", table, re.MULTILINE)[1:] == [
        rule.__name__.replace("_", " ") for rule in RULES
    ]


def test_the_other_examples_of_the_environments_page_run(tmp_path):
    (tmp_path / "guess.py").write_text(example("import gymnasium as gym\n\n\nclass"), encoding="utf-8")
    for code in (example("import gymnasium as gym\n\nimport agentgym_rft"), example("from pathlib")):
        path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\n"
        subprocess.run([sys.executable, "-c", path + code], cwd=tmp_path, check=True)
    assert len(list(tmp_path.glob("games/json_2.1.1/valid_unseen/*/*/game.tw-pddl"))) == 2


def agentgym(folder, *words):
    """Run a command in a folder, as a user does, on few and short episodes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "agentgym_rft", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


def example_run(folder, policy, file, code, *more):
    """Save an example as a file and train two steps with the command that names it, in a smaller environment."""
    (folder / file).write_text(code, encoding="utf-8")
    (words,) = (words for page, words in commands() if page == "algorithms.md" and file[:-3] in " ".join(words))
    words = [word.replace("alfworld", "tests.light_switch:LightSwitch") for word in words]
    smaller = ["--policy", str(policy), "--policy.device=cpu", "--policy.max_context=64"]
    smaller += ["--steps", "2", "--eval.num_tasks=0", "--out", "run"]
    return agentgym(folder, *words, *smaller, *more)


def test_the_example_algorithm_has_at_most_fifteen_lines_and_trains_and_goes_on(tmp_path, switch_policy):
    code, _ = blocks("docs/algorithms.md", "python")
    assert len([line for line in code.splitlines() if line]) <= 15
    metrics = example_run(tmp_path, switch_policy, "my_algorithm.py", code)
    assert len(metrics) == 2
    assert all(step["update/num_steps"] > 0 and step["grad/norm"] > 0 for step in metrics)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["algorithm"]["name"] == "my_algorithm:toward_best"
    assert config["algorithm"]["options"] == {"weight": 0.3}
    assert len(agentgym(tmp_path, "train", "--resume", "run", "--steps", "3")) == 3


def test_the_example_control_operator_and_strategy_train(tmp_path, switch_policy):
    _, code = blocks("docs/algorithms.md", "python")
    metrics = example_run(tmp_path, switch_policy, "my_parts.py", code, "--rollout.max_steps=2")
    assert [step["episode/turns"] for step in metrics] == [1, 1]  # half of the two, so that nothing is won
    assert [step["operators/dropped_my_parts:some_won"] for step in metrics] == [8, 8]


def anchors(text):
    """The fragments that lead to headings of a page, as GitHub makes them: of two equal ones the second ends in -1."""
    counts, found = Counter(), set()
    for heading in re.findall(r"^#+ +(.+?) *$", FENCED.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w -]", "", words).replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if counts[slug] else slug)
        counts[slug] += 1
    return found


def dead_links(page):
    """Links and images of a page that lead to no file, or to no heading of it; other sites are not looked at."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", INLINE.sub("", FENCED.sub("", text)))
    dead = []
    for link in links:
        path, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = page.parent / path if path else page
        known = anchors(target.read_text(encoding="utf-8")) if target.suffix == ".md" and target.is_file() else set()
        if not target.exists() or (fragment and fragment not in known):
            dead.append(link)
    return dead


def missing_paths(text):
    """Paths into the repository that a text names and that are not there; the package may be left out of them."""
    named = re.findall(rf"(?<![\w./-])(?:{'|'.join(ROOTS)})/[\w./*-]*", text)
    paths = {name.rstrip(".") for name in named} - ELSEWHERE
    bare = set(re.findall(r"`(\w+\.py)`", text)) - ELSEWHERE
    return sorted(
        [path for path in paths if not any(any(root.glob(path)) for root in (ROOT, ROOT / "agentgym_rft"))]
        + [name for name in bare if not any(any((ROOT / root).rglob(name)) for root in ROOTS)]
    )


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading_of_it(page):
    assert dead_links(page) == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_that_a_page_names_are_there(page):
    assert missing_paths(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_and_what_is_named_in_them_are_there(page):
    for name in set(re.findall(r"`(agentgym_rft\.\w+(?:\.\w+)+)", page.read_text(encoding="utf-8"))):
        pkgutil.resolve_name(name)


def lost_modules(text):
    """Python files that the text of a module names and that are not in the repository."""
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", text)
    return [name for name in named if not any((ROOT / "agentgym_rft").rglob(name)) and not (ROOT / name).is_file()]


def test_modules_that_the_code_names_are_there():
    for path in sorted((ROOT / "agentgym_rft").rglob("*.py")):
        assert lost_modules(path.read_text(encoding="utf-8")) == [], path
    text = "see `learner/lora.py`, `benchmarks/chaos.py`, `wrapping.py`, `sft/lora.py`"
    assert lost_modules(text) == ["wrapping.py", "sft/lora.py"]


def test_dead_links_and_missing_paths_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b.c`: d\n## Twice\n## Twice\n[1](#a-bc-d) [2](#twice-1) [3](page.md#twice) [4](https://x.y/z#a)\n"
        "[5](#twice-2) [6](none.md) ![7](none.png)\n[8](page.md#none) `[9](none)`\n```\n# no heading\n[10](none)\n```\n"
        "[11](#no-heading)\n"
    )
    assert dead_links(page) == ["#twice-2", "none.md", "none.png", "page.md#none", "#no-heading"]
    text = "`tests/test_docs.py`, `trainers/loop.py`, `benchmarks/leaderboard_*.py`, `test_docs.py`, runs/agents/x.py"
    assert missing_paths(text) == []
    text = "`tests/test_none.py`, see trainers/none.yaml. Or `benchmarks/none_*.py`, `test_none.py`"
    assert missing_paths(text) == ["benchmarks/none_*.py", "test_none.py", "tests/test_none.py", "trainers/none.yaml"]
