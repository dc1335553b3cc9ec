"""`agentgym crossplay`: plays every pair of policies in an environment with several agents."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentgym_rft.agents.policies.seeds import full_policy_name
from agentgym_rft.cli.evaluate import ENV_OPTION, base_settings, merge_settings, with_env_options
from agentgym_rft.cli.settings import check_out
from agentgym_rft.config.load import merge
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.rollouts.seats import SCRIPTS

if TYPE_CHECKING:
    from agentgym_rft.evaluation.team import EvaluationPolicies


def crossplay_command(
    env: Annotated[str, typer.Option(help="Environment of several agents: id, short name, or module:Class.")],
    policy: Annotated[list[str], typer.Option(help="POLICY or NAME=POLICY, as for agentgym eval. Repeatable.")],
    split: Annotated[
        str | None, typer.Option(help="Split; default: the recipe's, else the environment's last.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="First tasks of the panel; default: the recipe's.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Episodes a pair and task.")] = 1,
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
    if out is not None:
        check_out(out)
    evaluation = {"split": split, "num_tasks": tasks, "temperature": temperature, "max_steps": max_steps}
    place = {"device": device, "max_context": max_context}
    updates: dict[str, dict[str, Any]] = {
        "eval": {key: value for key, value in evaluation.items() if value is not None},
        "policy": {key: value for key, value in place.items() if value is not None},
        "run": {"seed": seed},
    }
    named = named_policies(policy)
    base = with_env_options(base_settings("", env), env_option)
    config = merge_settings(merge(base, {"policy": {"path": next(iter(named.values()))}}), updates, data, card)
    _show(_played(config, named, samples), out)


def named_policies(given: Sequence[str]) -> dict[str, str]:
    """Policies by name. Raises `ConfigError` for fewer than two, or two of one name."""
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


def _played(config: Config, named: dict[str, str], samples: int) -> dict[str, Any]:
    """All pairs played and summarised. Raises what loading does, and `PolicyError` if no episode could be played."""
    from agentgym_rft.envs.making import seats_of
    from agentgym_rft.evaluation.run import held_out_panel
    from agentgym_rft.evaluation.team import EvaluationPolicies

    roles = seats_of(config.env.id, config.env.options)
    if len(roles) < 2:
        raise ConfigError(f"Cross-play is for several agents, and {config.env.id} has one here: use agentgym eval.")
    policies = {name: full_policy_name(policy, config.env.id) for name, policy in named.items()}
    fixed = held_out_panel(config, None, set(policies.values()))
    loaded = EvaluationPolicies(config, roles)
    try:
        start = time.perf_counter()
        result = _matrix(loaded, config, roles, policies, fixed.panel.task_ids, samples)
        teams = {name: loaded.agents(dict.fromkeys(roles, policy)) for name, policy in policies.items()}
        exact = {name: loaded.exact(agents, config.eval.temperature) for name, agents in teams.items()}
    finally:
        loaded.close()
    is_scripted = set(policies.values()) <= set(SCRIPTS)
    return {
        "env": config.env.id,
        "options": dict(fixed.options),
        "split": fixed.panel.split,
        "panel_hash": fixed.panel.panel_hash,
        "num_tasks": len(fixed.panel),
        "samples": samples,
        "seed": config.run.seed,
        "temperature": None if is_scripted else config.eval.temperature,
        "max_steps": config.eval.max_steps,
        "named": policies,
        "wall_time_s": time.perf_counter() - start,
        **result,
        "exact": {name: found["exact"] for name, found in exact.items() if found},
    }


def _matrix(
    loaded: EvaluationPolicies,
    config: Config,
    roles: Mapping[str, str],
    policies: Mapping[str, str],
    task_ids: Sequence[str],
    samples: int,
) -> dict[str, Any]:
    from agentgym_rft.evaluation.crossplay import crossplay, make_sides
    from agentgym_rft.evaluation.panel import EvaluationPlan
    from agentgym_rft.report.crossplay import summarise_crossplay
    from agentgym_rft.rollouts.outcome import why_unplayed

    section, step_timeout_s = config.eval, config.rollout.step_timeout_s
    plan = EvaluationPlan(
        task_ids, section.temperature, config.run.seed, section.max_steps, samples, step_timeout_s=step_timeout_s
    )
    sides = make_sides(roles)
    games = crossplay(loaded, sides, policies, plan)
    everything = [trajectory for played in games.values() for trajectory in played]
    if problem := why_unplayed(everything, config.policy.max_context):
        raise PolicyError(f"Every episode {problem}")
    return summarise_crossplay(games, sides, samples)


def _show(summary: dict[str, Any], out: Path | None) -> None:
    from agentgym_rft.report.crossplay import crossplay_picture, crossplay_view
    from agentgym_rft.report.tables import print_wide
    from agentgym_rft.store.files import write_atomically

    to_stdout = out is None and not sys.stdout.isatty()
    print_wide(sys.stderr if to_stdout else sys.stdout, crossplay_view(summary))
    content = json.dumps(summary, indent=1) + "\n"
    if out is not None:
        write_atomically(out, content.encode())
        picture = out.with_suffix(".svg")
        write_atomically(picture, crossplay_picture(summary).encode())
        typer.echo(f"result {out}, picture {picture}")
    elif to_stdout:
        typer.echo(content, nl=False)
