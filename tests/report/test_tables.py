from __future__ import annotations

import io

from rich import box
from rich.table import Table

from agentgym_rft.report.tables import print_wide


def test_names_that_look_like_markup_are_printed_as_they_are():
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("task type")
    for name in ("[/oops]", "search[red]", ":smile:", "[bold]x[/bold]"):
        table.add_row(name)
    file = io.StringIO()
    print_wide(file, table)
    assert [line.strip() for line in file.getvalue().splitlines()][-5:-1] == [
        "[/oops]",
        "search[red]",
        ":smile:",
        "[bold]x[/bold]",
    ]
