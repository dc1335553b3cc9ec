"""The leaderboard of environments with several agents: scripted players and given policies, every pair of them.

    python benchmarks/leaderboard_team.py --out runs/leaderboard [--run kuhnpoker:self_play=runs/kuhn]

A trained policy is given as ENV:NAME=DIR. Writes the tables into docs/leaderboard.md and a matrix into docs/images/.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from leaderboards import HEAD, ROOT, arguments, replaced
from machine import describe

from agentgym_rft.report.leaderboard_pages import markdown
from agentgym_rft.report.team_pages import TEAM_INTRODUCTION, crossplay_tables, read_crossplay

SCRIPTS = ("oracle", "expert", "random")
FIELDS = {  # options of `agentgym crossplay`
    "kuhnpoker": ("--samples", "50"),
    "bargain": ("--tasks", "50"),
    "householdteam": ("--tasks", "20"),
}


def played(env: str, runs: dict[str, str], out: Path) -> Path:
    """The cross-play of an environment, made if it is not there yet."""
    path = out / f"{env}_crossplay.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        trained = [f"{name.removeprefix(f'{env}:')}={at}" for name, at in runs.items() if name.startswith(f"{env}:")]
        policies = [word for policy in (*SCRIPTS, *trained) for word in ("--policy", policy)]
        command = ["crossplay", "--env", env, *FIELDS[env], *policies, "--out", str(path)]
        subprocess.run([sys.executable, "-m", "agentgym_rft.cli.main", *command], check=True)
    return path


if __name__ == "__main__":
    options = arguments(__doc__)
    parts = [f"{TEAM_INTRODUCTION} Made on {describe()} by `python benchmarks/leaderboard_team.py`."]
    for env in FIELDS:
        result = played(env, options.runs, options.out)
        parts.append(markdown(crossplay_tables(read_crossplay(result)), level=3).strip())
        shutil.copy(result.with_suffix(".svg"), ROOT / "docs" / "images" / f"crossplay_{env}.svg")
        parts.append(f"![Cross-play in {env}](images/crossplay_{env}.svg)")
    page: Path = options.page
    before = page.read_text(encoding="utf-8") if page.exists() else HEAD
    page.write_text(replaced(before, "team", "## Several agents\n\n" + "\n\n".join(parts)), encoding="utf-8")
    print(page)
