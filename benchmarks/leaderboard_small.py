"""The leaderboard of the small environments: their scripted players on the first 200 tasks of their test splits.

    python benchmarks/leaderboard_small.py --out runs/leaderboard [--run sokoban:grpo=runs/sokoban]

A trained run is given as ENV:NAME=DIR. Writes the tables into docs/leaderboard.md.
"""

from __future__ import annotations

from leaderboards import Field, arguments, write_section

from agentgym_rft.agents.policies.seeds import seed_names

ENVS = ("arithmetic", "frozenlake", "searchqa", "sokoban", "textworld")
BASELINES = {"oracle": "oracle", "expert": "expert", "random": "random"}


def evaluated(env: str, runs: dict[str, str]) -> Field:
    """The scripted players of an environment, its own seed policy if there is one, and its trained runs."""
    seed = {"seed policy": f"seed:{env}"} if env in seed_names() else {}
    trained = {name.removeprefix(f"{env}:"): path for name, path in runs.items() if name.startswith(f"{env}:")}
    return Field(env, ("--tasks", "200"), {**BASELINES, **seed, **trained})


if __name__ == "__main__":
    options = arguments(__doc__)
    write_section(options.page, "small", [evaluated(env, options.runs) for env in ENVS], options.out)
