"""`agentgym eval`: measures the success of a policy on a frozen panel of tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft import registry
from agentgym_rft.cli.evaluation_settings import (
    ENV_OPTION,
    base_settings,
    given_values,
    merge_settings,
    with_env_options,
)
from agentgym_rft.cli.settings import check_out, is_piped, say_whose_seed
from agentgym_rft.cli.trust import Trust, check_trust
from agentgym_rft.config.base import MAX_SAMPLES
from agentgym_rft.config.run import Config
from agentgym_rft.envs.panels import Panel, read_panel
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.terminal import say, shown_path

POLICIES = (
    "seed, a model directory, a run (its last checkpoint), vllm: before any of these, oracle, expert, random, or "
    "openai:MODEL@URL."
)


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
    samples: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="Episodes a task; needs a temperature.")] = 1,
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
    trust: Trust = False,
) -> None:
    """Evaluate a policy: success by task type with 95 % intervals, and JSON with a row a task.

    A terminal shows the table, and --out writes the JSON. In a pipe, JSON goes to stdout and the table to stderr.
    With --out, the same command continues an evaluation that was stopped.
    """
    if out is not None:
        out = out.absolute()  # an environment may change the working directory
        check_out(out)
    if workers not in (None, "local", "processes", "ray"):
        raise ConfigError(f"--workers is '{workers}'; an evaluation has its episodes in 'local', 'processes' or 'ray'.")
    frozen = None if panel is None else _read_panel(panel, env, split, tasks)
    updates: dict[str, dict[str, Any]] = {
        "policy": given_values(device=device, max_context=max_context),
        "eval": given_values(split=split, num_tasks=tasks, temperature=temperature, max_steps=max_steps),
        "rollout": given_values(step_timeout_s=step_timeout, workers=workers),
        "run": {"seed": seed},
    }
    base = base_settings(_first_policy(policy, seat), env if frozen is None else frozen.env_id)
    if frozen is not None:
        base["env"]["options"] = {**frozen.options, **base["env"].get("options", {})}
    config = merge_settings(with_env_options(base, env_option), updates, data, card)
    check_trust(config, panel or _first_policy(policy, seat), env, trust, trains=False)
    say_whose_seed(config)
    _evaluate(config, policy, samples, frozen, out, seat)


def _evaluate(
    config: Config, policy: str | None, samples: int, frozen: Panel | None, out: Path | None, seat: Sequence[str] | None
) -> None:
    """Evaluate, write the result, and then show it."""
    from rich.console import Console

    from agentgym_rft.evaluation.run import Request, run_evaluation
    from agentgym_rft.report.evaluation_progress import TerminalEvaluationProgress
    from agentgym_rft.report.tables import evaluation_view
    from agentgym_rft.report.terminal import print_wide

    request = Request(config, policy, samples, frozen, out, tuple(seat or ()))
    progress = TerminalEvaluationProgress(Console(file=sys.stderr))
    summary = run_evaluation(request, progress, lambda summary: _write(summary, out))
    print_wide(sys.stderr if is_piped(out) else sys.stdout, evaluation_view(summary))
    if out is not None:
        say(f"result {shown_path(out)}")


def _first_policy(policy: str | None, given: Sequence[str] | None) -> str:
    """Return the policy whose run the settings come from. Raises `ConfigError` if no policy is given."""
    if policy is None and not given:
        raise ConfigError("Missing option --policy: give it, or --seat for every agent.")
    return policy or (given or [""])[0].partition("=")[2]


def _read_panel(path: Path, env: str | None, split: str | None, tasks: int | None) -> Panel:
    """Return the panel of a file. Raises `ConfigError` if other options say otherwise what to play."""
    frozen = read_panel(path)
    for name, value in (("split", split), ("tasks", tasks)):
        if value is not None:
            raise ConfigError(f"--panel says which tasks are played: leave out --{name}.")
    if env is not None and registry.resolve_env_id(env) != frozen.env_id:
        raise ConfigError(f"The panel '{path}' is of {frozen.env_id}, not of '{env}': leave out --env.")
    return frozen


def _write(summary: dict[str, Any], out: Path | None) -> None:
    from agentgym_rft.evaluation.partial import partial_path
    from agentgym_rft.report.evaluation import write_summary
    from agentgym_rft.store.under_way import under_way

    if out is not None:
        kept = "The finished episodes are kept: make room, and the same command writes the result."
        with under_way(out, kept, lambda: True):
            write_summary(out, summary)
        partial_path(out).unlink(missing_ok=True)
    elif is_piped(out):
        say(json.dumps(summary, indent=1))
        sys.stdout.flush()
