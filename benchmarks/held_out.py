"""What it costs to check that a panel is held out of training: every training task is hashed once.

    python benchmarks/held_out.py [--data DIR]

`--data` adds the real ALFWorld games. Prints a table of CPU seconds in this process.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from machine import describe

from agentgym_rft import registry
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.panels import assert_held_out, load_panel, quoted_split
from agentgym_rft.errors import ConfigError

SHIPPED = "agentgym/"


def row(env_id: str, options: dict[str, Any], split: str | None = None) -> str:
    """Training tasks, tasks of the panel, and the seconds that listing and hashing them took."""
    env = make_env(env_id, options)
    start = time.process_time()
    panel = load_panel(env, quoted_split(env, split))
    loaded = time.process_time()
    assert_held_out(env, panel, env.splits[0])
    checked = time.process_time()
    num_train = len(env.task_ids(env.splits[0]))
    env.close()
    name = f"{env_id}{' (real games)' if options else ''}"
    return f"| {name} | {panel.split} | {len(panel)} | {loaded - start:.2f} | {num_train} | {checked - loaded:.2f} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder in ALFWorld's layout")
    arguments = parser.parse_args()
    print(describe())
    print("\n| environment | panel | tasks | CPU s | training tasks | CPU s |\n|---|---|---|---|---|---|")
    for spec in registry.env_specs():
        if spec.id.startswith(SHIPPED):
            try:
                print(row(spec.id, {}))
            except (ConfigError, ImportError) as error:  # what an optional dependency is missing for
                print(f"| {spec.id} | {error} | | | | |")
    if arguments.data:
        print(row("agentgym/ALFWorld-v0", {"data": arguments.data}, "valid_seen"))
