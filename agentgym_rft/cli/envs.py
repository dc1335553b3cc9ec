"""`agentgym envs`: lists the registered environments."""

from __future__ import annotations

import sys

from rich import box
from rich.table import Table

from agentgym_rft import registry
from agentgym_rft.report.terminal import print_wide


def envs_command() -> None:
    """List the registered environments, those of installed packages included."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("id", "short name", "class"):
        table.add_column(heading)
    for spec in registry.env_specs():
        table.add_row(spec.id, spec.short_name, str(spec.entry_point))
    print_wide(sys.stdout, table)
