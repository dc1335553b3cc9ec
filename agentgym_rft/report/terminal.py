"""Prints on a terminal: the only place that does, since texts come from environments, models and files.

In them nothing is markup, and a control character is shown instead of carried out. It could clear the screen, change
the title of the window or write over what stands there.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# All control characters but the ends of lines and tabs, those that turn the direction of writing, and lone surrogates,
# which no terminal can be given.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return a text with its control characters as Python writes them: `\x1b`."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def shown_path(path: Path) -> str:
    """Return a path below the working directory as seen from there, any other as it is."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # an environment went to a folder and removed it
        return str(path)
    is_below = path.is_relative_to(here) and here != Path(here.anchor)
    return str(path.relative_to(here) if is_below else path)


def say(text: object, *, err: bool = False, nl: bool = True, fg: str | None = None) -> None:
    """Print a text on stdout, or on stderr."""
    typer.secho(printable(str(text)), err=err, nl=nl, fg=fg)


def print_line(console: Console, text: str) -> None:
    """Print a line above whatever else the console shows."""
    console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_wide(file: TextIO, view: RenderableType) -> None:
    """Print a view; into a file or pipe at a width that cuts no cell."""
    from rich.console import Console  # 20 ms, which most commands need not pay
    from rich.segment import Segment, Segments

    console = Console(file=file, width=None if file.isatty() else 200, markup=False, emoji=False)
    segments = [part if part.control else Segment(printable(part.text), part.style) for part in console.render(view)]
    console.print(Segments(segments), end="")


class PrintableFormatter(logging.Formatter):
    """Messages of a log, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
