"""How the modules of a checkout, or of several side by side, are laid out, as Markdown tables.

    git worktree add /tmp/before REVISION
    python benchmarks/structure.py /tmp/before .

- Levels are the longest chain of imports, circles are sets of modules that import each other. Imports inside functions
  count, too.
- A room is a folder of the package. `4 files + 5 rooms on 7 levels`: its loose files (without `__init__.py`) and its
  sub-rooms, where each of both is one node of the chain.
- Lengths are lines of a file, blank ones and comments included; those of a function begin at its `def`.
- The import is timed in fresh processes, in processor seconds; the median is shown.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from import_graph import Graph, circles, import_graph, inside, longest_chain, read_modules, rooms
from machine import describe

PACKAGE = "agentgym_rft"
LONG_FILE, LONG_FUNCTION = 300, 40
HEAVY = ("torch", "transformers", "ray", "pettingzoo")
IMPORT = f"""
import sys, time
start = time.process_time()
import {PACKAGE}
print(time.process_time() - start, *(name for name in {HEAVY} if name in sys.modules))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parents[1]
    parser.add_argument("roots", nargs="*", type=Path, default=[here], help="checkouts; by default this one")
    parser.add_argument("--repeats", type=int, default=7, help="how often each package is imported")
    args = parser.parse_args()
    columns = {f"`{root}` ({revision(root)})": root for root in args.roots}
    imported = import_costs(args.roots, args.repeats)
    rows = [counted(root) | imported[root] for root in args.roots]
    print(f"{describe()}\n\n{markdown('', columns, rows)}\n")
    print(f"{markdown('room', columns, [layouts(root) for root in args.roots])}\n")
    for column, root in columns.items():
        print(f"Over {LONG_FILE} or {LONG_FUNCTION} lines in {column}: {', '.join(long_names(root))}.\n")


def revision(root: Path) -> str:
    """Return the commit of a checkout, as far as there is one."""
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "no revision"


def counted(root: Path) -> dict[str, str]:
    """Return modules, levels, circles and lengths of a checkout."""
    package = read_modules(root / PACKAGE, PACKAGE)
    graph, benchmarks = import_graph(package), import_graph(read_modules(root / "benchmarks"))
    tests = read_modules(root / "tests")
    return {
        "package: modules": str(len(graph)),
        "package: levels of modules": str(len(longest_chain(graph))),
        "package: levels of rooms": str(len(longest_chain(rooms(graph, PACKAGE)))),
        "package: circles": shown_circles(graph),
        "`benchmarks/`: modules": str(len(benchmarks)),
        "`benchmarks/`: levels": str(len(longest_chain(benchmarks))),
        "`benchmarks/`: circles": shown_circles(benchmarks),
        "package: lines": f"{num_lines(package):,}",
        "tests: lines": f"{num_lines(tests):,}",
        f"package: files over {LONG_FILE} lines": str(len(list(long_files(package)))),
        f"package: functions over {LONG_FUNCTION} lines": str(len(list(long_functions(package)))),
    }


def shown_circles(graph: Graph) -> str:
    """Return how many circles there are, and of how many modules each."""
    found = circles(graph)
    sizes = " and ".join(str(len(circle)) for circle in found)
    return f"{len(found)} (of {sizes} modules)" if found else "0"


def layouts(root: Path) -> dict[str, str]:
    """Return what lies in each room of the package, and on how many levels."""
    graph = import_graph(read_modules(root / PACKAGE, PACKAGE))
    found = {}
    for package in [PACKAGE, *(f"{PACKAGE}.{room}" for room in rooms_in(graph, PACKAGE))]:
        nodes, modules = rooms(graph, package), inside(graph, package)
        num_rooms = len(rooms_in(graph, package))
        num_files = len(nodes) - num_rooms - ("__init__" in nodes)
        found[f"`{package.replace('.', '/')}/`"] = (
            f"{plural(num_files, 'file')} + {plural(num_rooms, 'room')} on {len(longest_chain(nodes))} levels;"
            f" {len(modules)} modules on {len(longest_chain(modules))}"
        )
    return found


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def rooms_in(graph: Graph, package: str) -> list[str]:
    """Return the names of the folders directly in a package."""
    names = (module.removeprefix(f"{package}.") for module in inside(graph, package))
    return sorted({room for room, _, module in (name.partition(".") for name in names if name != package) if module})


def num_lines(sources: Mapping[str, str]) -> int:
    """Return the lines of all modules."""
    return sum(len(source.splitlines()) for source in sources.values())


def long_files(sources: Mapping[str, str]) -> Iterator[str]:
    """Yield the modules that are too long."""
    return (module for module, source in sources.items() if len(source.splitlines()) > LONG_FILE)


def long_functions(sources: Mapping[str, str]) -> Iterator[str]:
    """Yield the functions that are too long, after their module."""
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONG_FUNCTION:
                    yield f"{module}.{node.name}"


def long_names(root: Path) -> list[str]:
    """Return the files and functions of the package that are too long, by name."""
    package = read_modules(root / PACKAGE, PACKAGE)
    names = [*long_files(package), *long_functions(package)]
    return [f"`{name.removeprefix(f'{PACKAGE}.')}`" for name in names] or ["none"]


def import_costs(roots: list[Path], repeats: int) -> dict[Path, dict[str, str]]:
    """Return what importing each package costs and brings along. They take turns, so that all meet the same machine."""
    outputs = [{root: imported(root) for root in roots} for _ in range(repeats + 1)][1:]  # the first writes bytecode
    return {
        root: {
            "import of the package: processor seconds": f"{median(float(output[root][0]) for output in outputs):.2f}",
            f"imported with it, of {', '.join(HEAVY)}": ", ".join(outputs[0][root][1:]) or "none",
        }
        for root in roots
    }


def imported(root: Path) -> list[str]:
    """Import a package in a fresh process. Returns its processor seconds and the heavy libraries that it loaded."""
    command = [sys.executable, "-c", IMPORT]  # the folder it runs in comes before what is installed
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split()


def markdown(title: str, columns: Mapping[str, Path], tables: list[dict[str, str]]) -> str:
    """Return tables side by side, with a dash where one lacks a row."""
    names = list(dict.fromkeys(name for table in tables for name in table))
    lines = [[title, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(table.get(name, "-") for table in tables)] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
