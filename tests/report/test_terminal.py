"""What comes from outside is shown in a terminal as text, and does nothing there."""

from __future__ import annotations

import ast
import io
import logging
from pathlib import Path

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

import agentgym_rft
from agentgym_rft.report.terminal import PrintableFormatter, print_line, print_wide, printable, say, shown_path

PACKAGE = Path(agentgym_rft.__file__).parent
HOSTILE = "\x1b]0;owned\x07\x1b[2Jrisen\rover\x9b31m \u202eback\ud800"
SHOWN = r"\x1b]0;owned\x07\x1b[2Jrisen\rover\x9b31m \u202eback\ud800"
MARKUP = ("[/oops]", "search[red]", ":smile:", "[bold]x[/bold]")


def test_control_characters_are_shown_and_other_text_is_as_it_was():
    assert printable(HOSTILE) == SHOWN
    ordinary = "a\tb\nç é 漢字 🙂 [/oops] \\x1b"
    assert printable(ordinary) == ordinary


def test_names_that_look_like_markup_are_printed_as_they_are():
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("task type")
    for name in MARKUP:
        table.add_row(name)
    file = io.StringIO()
    print_wide(file, table)
    assert [line.strip() for line in file.getvalue().splitlines()][-5:-1] == list(MARKUP)


def shown_in_every_way(text, capsys):
    """A text as a table, a line of progress, a line of a command and a warning show it."""
    table, files = Table(box=None), (io.StringIO(), io.StringIO())
    table.add_column(text)
    print_wide(files[0], table)
    print_line(Console(file=files[1], width=200), text)
    say(text)
    record = logging.LogRecord("a", logging.WARNING, "a.py", 1, "%s", (text,), None)
    shown = (*(file.getvalue() for file in files), capsys.readouterr().out, PrintableFormatter().format(record))
    return [each.strip() for each in shown]


@pytest.mark.parametrize("text", MARKUP)
def test_every_way_to_print_shows_markup_as_text(text, capsys):
    assert shown_in_every_way(text, capsys) == [text] * 4


def test_no_way_to_print_carries_out_a_control_character(capsys):
    for shown in shown_in_every_way(HOSTILE, capsys):
        assert shown == printable(shown)
        assert r"\x1b[2J" in shown


def test_nothing_else_in_the_package_prints():
    printing = {"print", "echo", "secho"}
    may = {"report/terminal.py", "cli/config_help.py", "envs/process/child.py"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in printing:
                    found.add(str(path.relative_to(PACKAGE)))
    assert found <= may


def test_a_path_is_shown_from_the_working_directory_where_it_lies_below(tmp_path, monkeypatch):
    path, gone = tmp_path / "runs" / "first", tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(tmp_path)
    assert shown_path(path) == "runs/first"
    monkeypatch.chdir("/")
    assert shown_path(path) == str(path)
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert shown_path(path) == str(path)
