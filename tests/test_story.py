"""The page `docs/story.md` says how a step goes and how two values go through the code: its lists are true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/story.md").read_text(encoding="utf-8")
LINK = re.compile(r"^\d+\. `([\w/.]+\.py)`: (.*?)(?: → `(\w+)`)?$", re.MULTILINE)
AT_MOST = {"From a reward to a loss weight": 12, "From `clip_low` in a recipe to the ratio that it bounds": 6}


def definitions(path: str) -> dict[str, str]:
    """The source of every function and class of a file, methods as `Class.method`."""
    source = (ROOT / path).read_text(encoding="utf-8")
    found = {}

    def walk(nodes: list[ast.stmt], before: str) -> None:
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found[before + node.name] = ast.get_source_segment(source, node) or ""
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{node.name}.")

    walk(ast.parse(source).body, "")
    return found


def code(path: str, text: str) -> str:
    """The code, without comments and docstrings, of the functions that a line names before it says what they do."""
    known = definitions(path)
    names = re.findall(r"`([\w.]+)`", re.match(r"(?:`[\w.]+`(?:, )?)+", text)[0])
    assert names
    return "\n".join(ast.unparse(undocumented(ast.parse(known[name]))) for name in names)  # KeyError: no such function


def undocumented(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]
    return tree


def links(title: str) -> list[tuple[str, str, str]]:
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return LINK.findall(section)


def has(word: str, source: str) -> bool:
    return re.search(rf"\b{word}\b", source) is not None


@pytest.mark.parametrize("title", AT_MOST)
def test_each_file_hands_on_what_the_next_one_takes(title):
    chain = links(title)
    assert 1 < len(chain) <= AT_MOST[title]
    assert len({path for path, _, _ in chain}) == len(chain)
    sources = [code(path, text) for path, text, _ in chain]
    for (path, _, word), own, following in zip(chain, sources, sources[1:], strict=False):
        assert word, path
        assert has(word, own), (path, word)
        assert has(word, following), (path, word)
    assert not chain[-1][2]


def test_what_only_hands_on_is_there():
    passed = re.findall(r"`([\w.]+)`\s+\(`([\w/]+\.py)`\)", PAGE)
    assert len(passed) > 8
    assert [(name, path) for name, path in passed if name not in definitions(path)] == []


def test_train_step_makes_the_calls_of_the_table_in_its_order():
    calls = re.findall(r"^\| [\w ]*\| `([\w.]+)` \|", PAGE, re.MULTILINE)
    assert len(calls) == 8
    source = definitions("agentgym_rft/trainers/loop.py")["train_step"]
    places = [source.index(f"{call}(") for call in calls]
    assert places == sorted(places)


def test_a_second_ledger_is_written_nowhere_else():
    """After the episode rewards come by `add_reward` alone."""
    later = [
        *(ROOT / "agentgym_rft/trainers/algorithms").rglob("*.py"),
        *(ROOT / "agentgym_rft/rollouts/strategies").rglob("*.py"),
    ]
    writing = re.compile(r"replace\([^)]*\breward=|\brewards=")
    assert [path.name for path in later if writing.search(path.read_text(encoding="utf-8"))] == []
