"""The imports of Python files as a graph: who imports whom, on how many levels, and in which circles.

A graph maps each module to the modules that it imports, at the top of its file or inside a function. It is used by
benchmarks/structure.py and by tests/test_dependencies.py.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

Graph = Mapping[str, frozenset[str]]


def read_modules(folder: Path, package: str = "") -> dict[str, str]:
    """Return the source of every module below a folder, by the name under which it is imported."""
    sources = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [*filter(None, [package]), *path.relative_to(folder).with_suffix("").parts]
        sources[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return sources


def imported_names(source: str) -> Iterator[str]:
    """Yield all names that a file imports; `from a import b` gives `a.b`, be `b` a module or not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def resolve(name: str, modules: Mapping[str, object]) -> str | None:
    """Return the module that an imported name is or stands in; None if it is none of these."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def import_graph(sources: Mapping[str, str]) -> Graph:
    """Return which of the given modules each of them imports."""
    found = {module: {resolve(name, sources) for name in imported_names(source)} for module, source in sources.items()}
    return {module: frozenset(filter(None, targets - {module})) for module, targets in found.items()}


def merged(graph: Graph, node_of: Callable[[str], str | None]) -> Graph:
    """Return the graph in which modules of the same `node_of` are one node. Modules of None are left out."""
    edges: dict[str, set[str]] = {}
    for module, targets in graph.items():
        if node := node_of(module):
            edges.setdefault(node, set()).update(filter(None, map(node_of, targets)))
    return {node: frozenset(targets - {node}) for node, targets in edges.items()}


def inside(graph: Graph, package: str) -> Graph:
    """Return the modules of a package and their imports of each other."""
    return merged(graph, lambda module: module if f"{module}.".startswith(f"{package}.") else None)


def rooms(graph: Graph, package: str) -> Graph:
    """Return what lies directly in a package, files and sub-packages, and which imports which."""
    below = f"{package}."
    return merged(
        graph,
        lambda module: (
            "__init__"
            if module == package
            else module.removeprefix(below).partition(".")[0]
            if module.startswith(below)
            else None
        ),
    )


def reachable(graph: Graph, start: str) -> frozenset[str]:
    """Return the modules that one imports, directly or through others; with itself only if it is in a circle."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return frozenset(found)


def components(graph: Graph) -> dict[str, frozenset[str]]:
    """Return for each module those that import it and that it imports, however indirectly, and itself."""
    below = {module: reachable(graph, module) for module in graph}
    return {
        module: frozenset({module, *(other for other in targets if module in below[other])})
        for module, targets in below.items()
    }


def circles(graph: Graph) -> list[list[str]]:
    """Return the sets of modules that import each other in a circle, sorted."""
    return sorted(sorted(component) for component in set(components(graph).values()) if len(component) > 1)


def longest_chain(graph: Graph) -> list[str]:
    """Return the longest chain of imports, what all the others need first; a circle counts as one module.

    Its length is the number of levels of the graph.
    """
    names = {module: min(component) for module, component in components(graph).items()}
    condensed = merged(graph, names.__getitem__)
    chains: dict[str, list[str]] = {}
    for module in TopologicalSorter(condensed).static_order():
        longest = max((chains[target] for target in sorted(condensed[module])), key=len, default=[])
        chains[module] = [*longest, module]
    return max(chains.values(), key=len, default=[])
