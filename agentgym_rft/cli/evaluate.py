"""`agentgym eval`: measures the success of a policy on a frozen panel of tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft import registry
from agentgym_rft.agents.policies.names import model_name
from agentgym_rft.agents.policies.seeds import is_seed
from agentgym_rft.cli.settings import (
    DEFAULT_ENV,
    check_out,
    fresh_config,
    is_run_dir,
    read_run_config,
    say_whose_seed,
    with_full_names,
)
from agentgym_rft.config.load import merge, parse_value, validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.envs.panels import FrozenPanel, read_panel
from agentgym_rft.errors import ConfigError

POLICIES = (
    "seed, a model directory, a run (its last checkpoint), vllm: before any of these, oracle, expert, random, or "
    "openai:MODEL@URL."
)
ENV_OPTION = "KEY=VALUE, an argument of the environment, such as num_agents=1. Repeatable."


def evaluate_command(
    policy: Annotated[str | None, typer.Option(help=POLICIES)] = None,
    seat: Annotated[
        list[str] | None, typer.Option(help="AGENT=POLICY or ROLE=POLICY; --policy plays the rest. Repeatable.")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Environment; default: the run's or panel's, else ALFWorld.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split; default: the recipe's, else the environment's last.")
    ] = None,
    panel: Annotated[Path | None, typer.Option(help="Panel file, in place of --split and --tasks.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="First tasks of the panel; default: the recipe's.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory of the environment.")] = None,
    env_option: Annotated[list[str] | None, typer.Option(help=ENV_OPTION)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result to this file, as JSON.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of sampling; default: the recipe's, greedy.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Episodes a task, for pass@k; needs a temperature.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of environments and sampling.")] = 0,
    card: Annotated[str | None, typer.Option(help="Agent card; default: the run's or recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Steps before an episode is cut.")] = None,
    max_context: Annotated[int | None, typer.Option(min=16, help="Tokens in one row; default: the run's.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default: the run's or recipe's.")] = None,
    step_timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds an environment call may take; default: the run's, or any.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Where episodes run: local, processes or ray; default: the run's, or local.")
    ] = None,
) -> None:
    """Evaluate a policy: success by task type with 95 % intervals, and JSON with a row a task.

    A terminal shows the table, and --out writes the JSON. In a pipe, JSON goes to stdout and the table to stderr.
    With --out, the same command continues an evaluation that was stopped.
    """
    from agentgym_rft.evaluation.run import Request, run_evaluation

    if out is not None:
        check_out(out)
    if workers not in (None, "local", "processes", "ray"):
        raise ConfigError(f"--workers is '{workers}'; an evaluation has its episodes in 'local', 'processes' or 'ray'.")
    frozen = None if panel is None else _read_panel(panel, env, split, tasks)
    updates: dict[str, dict[str, Any]] = {
        "policy": _given(device=device, max_context=max_context),
        "eval": _given(split=split, num_tasks=tasks, temperature=temperature, max_steps=max_steps),
        "rollout": _given(step_timeout_s=step_timeout, workers=workers),
        "run": {"seed": seed},
    }
    base = base_settings(_first_policy(policy, seat), env if frozen is None else frozen.panel.env_id)
    if frozen is not None:
        base["env"]["options"] = {**frozen.options, **base["env"].get("options", {})}
    config = merge_settings(with_env_options(base, env_option), updates, data, card)
    say_whose_seed(config)
    _show(run_evaluation(Request(config, policy, samples, frozen, out, tuple(seat or ()))), out)


def _first_policy(policy: str | None, seats: Sequence[str] | None) -> str:
    """The policy whose run the settings come from. Raises `ConfigError` if no policy is given."""
    if policy is None and not seats:
        raise ConfigError("Missing option --policy: give it, or --seat for every agent.")
    return policy or (seats or [""])[0].partition("=")[2]


def with_env_options(base: dict[str, Any], given: Sequence[str] | None) -> dict[str, Any]:
    """The settings with the environment's arguments `KEY=VALUE`. Raises `ConfigError`."""
    for text in given or ():
        key, mark, value = text.partition("=")
        if not (mark and key):
            raise ConfigError(f"--env-option is '{text}'; expected KEY=VALUE.")
        base = merge(base, {"env": {"options": {key: parse_value(f"--env-option {key}", value)}}})
    return base


def _read_panel(path: Path, env: str | None, split: str | None, tasks: int | None) -> FrozenPanel:
    """The panel of a file. Raises `ConfigError` if other options say otherwise what to play."""
    frozen = read_panel(path)
    for name, value in (("split", split), ("tasks", tasks)):
        if value is not None:
            raise ConfigError(f"--panel says which tasks are played: leave out --{name}.")
    if env is not None and registry.resolve_env_id(env) != frozen.panel.env_id:
        raise ConfigError(f"The panel '{path}' is of {frozen.panel.env_id}, not of '{env}': leave out --env.")
    return frozen


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def base_settings(policy: str, env: str | None) -> dict[str, Any]:
    """The run's configuration if `policy` is a run, else the environment's recipe, with `policy` in it."""
    named = {"policy": {"path": policy}}
    path = _run_of(model_name(policy))
    if is_seed(model_name(policy)) or not is_run_dir(path):
        return merge(fresh_config(env or DEFAULT_ENV, None, ()).model_dump(), named)
    config = with_full_names(validate_config(read_run_config(path))).model_dump()
    if env is not None and registry.resolve_env_id(env) != config["env"]["id"]:
        config["env"] = {"id": env}
    return merge(config, named)


def _run_of(name: str) -> Path:
    """The directory in a model's name, which may be RUN#ROLE."""
    if "#" not in name:
        return Path(name)
    from agentgym_rft.store.run_policies import split_role

    return split_role(name)[0]


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


def _show(summary: dict[str, Any], out: Path | None) -> None:
    from agentgym_rft.evaluation.run import partial_path
    from agentgym_rft.report.evaluation import write_summary
    from agentgym_rft.report.tables import evaluation_view, print_wide

    to_stdout = out is None and not sys.stdout.isatty()
    print_wide(sys.stderr if to_stdout else sys.stdout, evaluation_view(summary))
    if out is not None:
        write_summary(out, summary)
        partial_path(out).unlink(missing_ok=True)
        typer.echo(f"result {out}")
    elif to_stdout:
        typer.echo(json.dumps(summary, indent=1))
