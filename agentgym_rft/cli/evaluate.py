"""`agentgym eval`: success of a policy on a frozen panel of tasks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft import registry
from agentgym_rft.cli.settings import (
    DEFAULT_ENV,
    check_out,
    fresh_config,
    is_run_dir,
    read_run_config,
    with_full_names,
)
from agentgym_rft.config import Config, merge, validate_config
from agentgym_rft.errors import PolicyError


def evaluate_command(
    policy: Annotated[str, typer.Option(help="seed, a model directory, or a run (its last checkpoint).")],
    env: Annotated[str | None, typer.Option(help="Environment; default: the run's, else ALFWorld.")] = None,
    split: Annotated[str | None, typer.Option(help="Split; default: the recipe's, valid_unseen.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="First tasks of the panel; default: the recipe's.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory of the environment.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result to this file, as JSON.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of sampling; default: the recipe's, greedy.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of environments and sampling.")] = 0,
    card: Annotated[str | None, typer.Option(help="Agent card; default: the run's or recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps before an episode is cut.")] = None,
    max_context: Annotated[int | None, typer.Option(min=16, help="Tokens in one row; default: the run's.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default: the run's or recipe's.")] = None,
) -> None:
    """Evaluate a policy: success by task type with 95 % intervals, and JSON with a row a task.

    A terminal shows the table, and --out writes the JSON. In a pipe, JSON goes to stdout and the table to stderr.
    """
    if out is not None:
        check_out(out)
    updates: dict[str, dict[str, Any]] = {
        "policy": _given(device=device, max_context=max_context),
        "eval": _given(split=split, num_tasks=tasks, temperature=temperature, max_steps=max_steps),
        "run": {"seed": seed},
    }
    config = merge_settings(base_settings(policy, env), updates, data, card)
    _show(evaluate_policy(config, policy), out)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def base_settings(policy: str, env: str | None) -> dict[str, Any]:
    """The run's configuration if `policy` is a run, else the environment's recipe, with `policy` in it."""
    named = {"policy": {"path": policy}}
    path = Path(policy)
    if policy == "seed" or not is_run_dir(path):
        return merge(fresh_config(env or DEFAULT_ENV, None, ()).model_dump(), named)
    config = with_full_names(validate_config(read_run_config(path))).model_dump()
    if env is not None and registry.resolve_env_id(env) != config["env"]["id"]:
        config["env"] = {"id": env}
    return merge(config, named)


def merge_settings(
    base: dict[str, Any], updates: dict[str, dict[str, Any]], data: str | None, card: str | None
) -> Config:
    """The configuration of an evaluation. Another card comes without the overrides of the old one."""
    settings = merge(base, updates)
    if data is not None:
        settings = merge(settings, {"env": {"options": {"data": data}}})
    if card is not None:
        settings["agent"] = {"card": card}
    return with_full_names(validate_config(settings))


def evaluate_policy(config: Config, label: str) -> dict[str, Any]:
    """Play the panel that a configuration names, and summarise it. `label` names the policy in the result.

    Raises `PolicyError` if no episode could be played.
    """
    from agentgym_rft.envs.making import make_env
    from agentgym_rft.envs.panels import load_panel
    from agentgym_rft.report.evaluation import EvaluationSettings, summarise
    from agentgym_rft.rollouts.build import open_workers
    from agentgym_rft.rollouts.evaluate import evaluate
    from agentgym_rft.rollouts.outcome import why_unplayed

    env = make_env(config.env.id, config.env.options)
    panel = load_panel(env, config.eval.split, config.eval.num_tasks or None, env_id=config.env.id)
    env.close()
    workers = open_workers(config)
    seed, temperature, max_steps = config.run.seed, config.eval.temperature, config.eval.max_steps
    try:
        trajectories = evaluate(workers, panel.task_ids, temperature=temperature, seed=seed, max_steps=max_steps)
    finally:
        workers.close()
    if problem := why_unplayed(trajectories, workers.max_context):
        raise PolicyError(f"Every episode {problem}")
    return summarise(trajectories, panel, EvaluationSettings(label, seed, temperature, max_steps))


def _show(summary: dict[str, Any], out: Path | None) -> None:
    from agentgym_rft.report.evaluation import write_summary
    from agentgym_rft.report.tables import evaluation_view, print_wide

    to_stdout = out is None and not sys.stdout.isatty()
    print_wide(sys.stderr if to_stdout else sys.stdout, evaluation_view(summary))
    if out is not None:
        write_summary(out, summary)
        typer.echo(f"result {out}")
    elif to_stdout:
        typer.echo(json.dumps(summary, indent=1))
