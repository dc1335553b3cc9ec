"""`agentgym crossplay`: plays every pair of policies in an environment with several agents."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft.cli.evaluation_settings import (
    ENV_OPTION,
    base_settings,
    given_values,
    merge_settings,
    with_env_options,
)
from agentgym_rft.cli.settings import check_out, is_piped
from agentgym_rft.config.base import MAX_SAMPLES
from agentgym_rft.config.load import merge
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.terminal import say, shown_path


def crossplay_command(
    env: Annotated[str, typer.Option(help="Environment of several agents: id, short name, or module:Class.")],
    policy: Annotated[list[str], typer.Option(help="POLICY or NAME=POLICY, as for agentgym eval. Repeatable.")],
    split: Annotated[
        str | None, typer.Option(help="Split; default: the recipe's, else the environment's last.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="First tasks of the panel; default: the recipe's.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="Episodes a pair and task.")] = 1,
    data: Annotated[str | None, typer.Option(help="Data directory of the environment.")] = None,
    env_option: Annotated[list[str] | None, typer.Option(help=ENV_OPTION)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here, and beside it the matrix as .svg.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; 0 is greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of environments and sampling, the same for all pairs.")] = 0,
    card: Annotated[str | None, typer.Option(help="Agent card; default: the recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Turns before an episode is cut.")] = None,
    max_context: Annotated[int | None, typer.Option(min=16, help="Tokens in one row.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default: the recipe's.")] = None,
) -> None:
    """Play every ordered pair of policies on the same tasks with the same seeds.

    The policy of a row plays the first agent (with the others of its role, if not all have one role), that of a column
    all others. A terminal shows the matrix, ratings and, where the environment has a theory, exact values; --out writes
    JSON and a picture. In a pipe, JSON goes to stdout and the tables to stderr.
    """
    from agentgym_rft.evaluation.crossplay import run_crossplay

    if out is not None:
        check_out(out)
    updates: dict[str, dict[str, Any]] = {
        "eval": given_values(split=split, num_tasks=tasks, temperature=temperature, max_steps=max_steps),
        "policy": given_values(device=device, max_context=max_context),
        "run": {"seed": seed},
    }
    named = named_policies(policy)
    base = with_env_options(base_settings("", env), env_option)
    config = merge_settings(merge(base, {"policy": {"path": next(iter(named.values()))}}), updates, data, card)
    here = None if out is None else out.absolute()  # an environment may change the working directory
    _show(run_crossplay(config, named, samples, lambda summary: _write(summary, here)), here)


def named_policies(given: Sequence[str]) -> dict[str, str]:
    """Return the policies by name. Raises `ConfigError` for fewer than two, or two of one name."""
    named: dict[str, str] = {}
    for text in given:
        name, mark, policy = text.partition("=")
        is_named = bool(mark) and not Path(text).exists()
        key, value = (name, policy) if is_named else (text, text)
        if not key or not value:
            raise ConfigError(f"--policy is '{text}'; expected POLICY or NAME=POLICY.")
        if key in named:
            raise ConfigError(f"Two policies are called '{key}': write one of them as NAME=POLICY.")
        named[key] = value
    if len(named) < 2:
        raise ConfigError("Cross-play needs at least two policies: give --policy more than once.")
    return named


def _write(summary: dict[str, Any], out: Path | None) -> None:
    from agentgym_rft.store.files import write_atomically

    content = json.dumps(summary, indent=1) + "\n"
    if out is not None:
        write_atomically(out, content.encode())
    elif is_piped(out):
        say(content, nl=False)
        sys.stdout.flush()


def _show(summary: dict[str, Any], out: Path | None) -> None:
    from agentgym_rft.report.crossplay import crossplay_picture, crossplay_view
    from agentgym_rft.report.terminal import print_wide
    from agentgym_rft.store.files import write_atomically

    print_wide(sys.stderr if is_piped(out) else sys.stdout, crossplay_view(summary))
    if out is not None:
        picture = out.with_suffix(".svg")
        write_atomically(picture, crossplay_picture(summary).encode(errors="backslashreplace"))
        say(f"result {shown_path(out)}, picture {shown_path(picture)}")
