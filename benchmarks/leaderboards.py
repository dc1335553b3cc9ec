"""What the leaderboard scripts share: evaluate policies on a frozen panel, and put the tables into a page.

Every result is a file in `--out` and not made again while it is there. What an environment has no player for is left
out, with the reason.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from machine import describe

from agentgym_rft.report.leaderboard import make_boards, named_results
from agentgym_rft.report.leaderboard_pages import INTRODUCTION, make_tables, markdown
from agentgym_rft.report.published import default_path, read_published

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "leaderboard.md"
PANELS = Path(__file__).parent / "panels"
HEAD = f"""# Leaderboard

Written by `benchmarks/leaderboard_*.py`; what the columns mean is in [evaluation.md](evaluation.md#leaderboards).
{INTRODUCTION}
"""


@dataclass(frozen=True)
class Field:
    """Who plays what: an environment, which of its tasks (options of `agentgym eval`), and the policies by name."""

    env: str  # short name
    tasks: tuple[str, ...]
    policies: dict[str, str]
    left_out: list[str] = field(default_factory=list)


def panel_options(env: str, split: str) -> tuple[str, ...]:
    """The frozen panel of this folder, which must be there. Make it with `agentgym panel freeze`."""
    path = PANELS / f"{env}_{split}.json"
    if not path.is_file():
        sys.exit(f"There is no {path}. Make it: agentgym panel freeze --env {env} --split {split} --out {path}")
    return ("--panel", str(path))


def arguments(description: str | None) -> argparse.Namespace:
    """`--out`, `--page`, and the trained runs of `--run NAME=DIR`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/leaderboard"), help="folder of the results")
    parser.add_argument("--page", type=Path, default=PAGE, help="page that the tables are put into")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=DIR", help="a run or model; repeatable")
    options = parser.parse_args()
    options.runs = dict(run.split("=", 1) for run in options.run)
    return options


def evaluated(evaluated: Field, out: Path) -> list[str]:
    """Evaluate what is not evaluated yet. Returns `NAME=FILE` of the results; failures are noted in `left_out`."""
    results = []
    for name, policy in evaluated.policies.items():
        path = out / f"{evaluated.env}_{name.replace(' ', '_')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            command = ["eval", "--env", evaluated.env, *evaluated.tasks, "--policy", policy, "--out", str(path)]
            done = subprocess.run(
                [sys.executable, "-m", "agentgym_rft.cli.main", *command], stderr=subprocess.PIPE, text=True
            )
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1]
                print(f"{evaluated.env} {name}: {reason}", file=sys.stderr)
                evaluated.left_out.append(f"{name} ({reason})")
                continue
        results.append(f"{name}={path}")
    return results


def write_section(page: Path, name: str, fields: Sequence[Field], out: Path) -> None:
    """Put the tables of some environments between the marks of a section, which is added if it is missing."""
    results = [result for evaluated in fields for result in evaluated(evaluated, out)]
    boards = make_boards(named_results(results))
    published = default_path()
    env_ids = [str(board.protocol["env"]) for board in boards]
    rows = [] if published is None else read_published(published, env_ids)
    script = f"Made on {describe()} by `python benchmarks/leaderboard_{name}.py`."
    notes = [f"Not played in {e.env}: {'; '.join(e.left_out)}" for e in fields if e.left_out]
    body = "\n\n".join([script, markdown(make_tables(boards, rows)).strip(), *notes])
    page.write_text(replaced(page.read_text(encoding="utf-8") if page.exists() else HEAD, name, body), encoding="utf-8")
    print(page)


def replaced(text: str, name: str, body: str) -> str:
    """A page with `body` between the marks of a section; a section that is not there yet is added at its end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{body}\n{end}"
    before, mark, rest = text.partition(begin)
    if not mark:
        return f"{text.rstrip()}\n\n{section}\n"
    _, closing, after = rest.partition(end)
    if not closing:
        sys.exit(f"The page has '{begin}' without '{end}'.")
    return before + section + after
