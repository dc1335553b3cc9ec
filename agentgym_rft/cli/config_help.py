"""The help of commands that take a configuration: `--help` shows the keys that matter, `--help-all` shows all."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal, get_origin

import typer
from typer.core import TyperCommand

from agentgym_rft.config.base import Section
from agentgym_rft.config.leaves import Leaf, leaves, shown, type_name

ALL = "--help-all"
_OPTION_WIDTH = 36
_WIDTHS = (80, 120)  # narrowest and widest text


def help_all_parameter() -> inspect.Parameter:
    """Return the option `--help-all` as a parameter of a command."""
    option = typer.Option(
        False, ALL, is_eager=True, callback=_show_all, help="Show this message with every configuration key."
    )
    return inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=option, annotation=bool)


def _show_all(context: typer.Context, is_given: bool) -> None:
    if is_given:
        context.meta[ALL] = True
        typer.echo(context.get_help())
        raise typer.Exit


def config_command(model: type[Section]) -> type[TyperCommand]:
    """Return the class of a command whose help ends with the keys of a configuration."""

    class ConfigCommand(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            width = min(max(shutil.get_terminal_size().columns, _WIDTHS[0]), _WIDTHS[1])
            formatter.write("\n".join(config_help(list(leaves(model)), width, is_all=ALL in ctx.meta)) + "\n")

    return ConfigCommand


def config_help(config_leaves: Sequence[Leaf], width: int, *, is_all: bool) -> Iterator[str]:
    """Yield the lines of the help: a section's keys one below the other, each with its default."""
    chosen = [leaf for leaf in config_leaves if is_all or leaf.is_main]
    if len(chosen) == len(config_leaves):
        yield f"All {len(chosen)} keys of the configuration."
    else:
        yield f"The {len(chosen)} keys of the configuration that matter most; {ALL} shows all {len(config_leaves)}."
    yield "Defaults are those of a run without a recipe; a recipe sets its own."
    for section, members in groupby(chosen, lambda leaf: leaf.section):
        yield ""
        yield f"{section or 'top level'}:"
        for leaf in members:
            yield from _lines(leaf, width)


def _lines(leaf: Leaf, width: int) -> list[str]:
    option = f"  {leaf.option}={shown(leaf.default)}"
    choices = _choices(leaf)
    text = f"{leaf.description} ({choices})" if choices else leaf.description
    parts = textwrap.wrap(text, width - _OPTION_WIDTH, break_on_hyphens=False)
    if len(option) >= _OPTION_WIDTH:
        return [option, *(" " * _OPTION_WIDTH + part for part in parts)]
    return [f"{option:{_OPTION_WIDTH}}{parts[0]}", *(" " * _OPTION_WIDTH + part for part in parts[1:])]


def _choices(leaf: Leaf) -> str:
    """Return the type of a key whose default does not show it."""
    is_plain = leaf.default is not None and leaf.default != () and get_origin(leaf.annotation) is not Literal
    return "" if is_plain else type_name(leaf.annotation)
