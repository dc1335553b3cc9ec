"""`agentgym bench`: evaluates every checkpoint of a run on one panel, as a curve."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft.cli.evaluation_settings import given_values, merge_settings
from agentgym_rft.cli.settings import is_run_dir, place_in, read_run_config, with_full_names
from agentgym_rft.cli.trust import Trust, check_trust
from agentgym_rft.config.base import MAX_SAMPLES
from agentgym_rft.config.load import merge, validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.terminal import say, shown_path


def bench_command(
    run: Annotated[Path, typer.Argument(help="Run directory; --run.keep_checkpoints says how many it keeps.")],
    samples: Annotated[int, typer.Option(min=1, max=MAX_SAMPLES, help="Episodes a task, for best@k and worst@k.")] = 4,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; 0 is greedy, with --samples 1.")] = 1.0,
    split: Annotated[str | None, typer.Option(help="Split; default: the run's.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="First tasks of the panel; default: the run's.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Only checkpoints whose step is a multiple of it.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of environments and sampling.")] = 0,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default: the run's.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory of the environment; default: the run's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default: bench in the run.")] = None,
    trust: Trust = False,
) -> None:
    """Evaluate the policy that a run began with and all of its checkpoints: curve.json, and a table.

    Each result is kept in the folder, so the same command continues where it was stopped, or adds new checkpoints.
    """
    from agentgym_rft.report.bench import bench_table
    from agentgym_rft.report.terminal import print_wide

    if not is_run_dir(run):
        raise ConfigError(f"'{run}' is no run directory of `agentgym train`.")
    if (run / "policies").is_dir():
        raise ConfigError(
            f"'{run}' trained a policy for each role; bench is for one policy. Use `agentgym eval` on it."
        )
    recorded = with_full_names(validate_config(read_run_config(run)))
    check_trust(recorded, run, (), trust, trains=False)
    base = recorded.model_dump()
    updates: dict[str, dict[str, Any]] = {
        "eval": given_values(split=split, num_tasks=tasks, temperature=temperature),
        "policy": given_values(device=device),
        "run": {"seed": seed},
    }
    folder = (out or place_in(run, "bench")).absolute()  # an environment may change the working directory
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write to '{folder}': {error.strerror}. Choose another --out.") from error
    configs = {
        step: merge_settings(merge(base, {"policy": {"path": policy}}), updates, data, None)
        for step, policy in _policies(run.absolute(), base, every)
    }
    print_wide(sys.stdout, bench_table(_curve(run, configs, samples, folder)))
    say(f"curve {shown_path(folder / 'curve.json')}")


def _curve(run: Path, configs: Mapping[int, Config], samples: int, folder: Path) -> list[dict[str, Any]]:
    """Evaluate the policy of each step and write the curve into the folder. Returns its points."""
    from agentgym_rft.report.bench import point
    from agentgym_rft.store.files import write_atomically
    from agentgym_rft.store.under_way import under_way

    points: list[dict[str, Any]] = []
    with under_way(folder, "Make room, and the same command goes on.", lambda: bool(points)):
        for step, config in configs.items():
            summary = _evaluated(config, f"{run.name}@{step}", samples, folder / f"step_{step:06d}.json")
            points.append(point(step, summary))
        content = {"run": str(run), "protocol": summary["protocol"], "seed": config.run.seed, "points": points}
        write_atomically(folder / "curve.json", (json.dumps(content, indent=1) + "\n").encode())
    return points


def _policies(run: Path, base: dict[str, Any], every: int) -> list[tuple[int, str]]:
    """Step and policy of the start and of each checkpoint."""
    from agentgym_rft.store.checkpoint import checkpoint_folders

    found = checkpoint_folders(run / "checkpoints")
    kept = [(step, str(path / "model")) for step, path in found if step % every == 0]
    return [(0, str(base["policy"]["path"])), *kept]


def _evaluated(config: Config, name: str, samples: int, path: Path) -> dict[str, Any]:
    """Return the summary of one policy: the one in the file if it is of the same protocol, else a new one."""
    from rich.console import Console

    from agentgym_rft.evaluation.partial import partial_path
    from agentgym_rft.evaluation.run import Request, run_evaluation
    from agentgym_rft.report.evaluation import read_summary, write_summary
    from agentgym_rft.report.evaluation_progress import TerminalEvaluationProgress

    asked: dict[str, Any] = {"samples": samples, "temperature": config.eval.temperature, "seed": config.run.seed}
    asked["weights"] = config.policy.path
    if path.is_file():
        known = read_summary(path)
        same_split = config.eval.split in (None, known["split"])
        same_panel = same_split and config.eval.num_tasks in (0, known["num_tasks"])
        if same_panel and known.get("asked") == asked:
            say(f"{name}: known", err=True)
            return known
    say(f"{name}:", err=True)
    progress = TerminalEvaluationProgress(Console(file=sys.stderr))

    def keep(summary: dict[str, Any]) -> None:
        write_summary(path, {**summary, "asked": asked})
        partial_path(path).unlink(missing_ok=True)

    return run_evaluation(Request(config, name, samples, None, path), progress, keep)
