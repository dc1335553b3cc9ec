"""One evaluation, from its configuration to its summary; what `agentgym eval` does when all options are read."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from agentgym_rft.agents.card import card_label
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.panel_files import FrozenPanel, check_panel
from agentgym_rft.envs.panels import assert_held_out, lasting_options, load_panel, quoted_split
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.report.evaluation import EvaluationSettings, Summary, protocol, summarise
from agentgym_rft.report.evaluation_progress import evaluation_progress
from agentgym_rft.rollouts.env_maker import env_maker
from agentgym_rft.rollouts.evaluate import EvaluationPlan, PanelWorkers, evaluate
from agentgym_rft.rollouts.outcome import why_unplayed
from agentgym_rft.rollouts.players import ENDPOINT, SCRIPTED, TextWorkers, at_endpoint, check_script, scripted
from agentgym_rft.sections import Config
from agentgym_rft.store.partial import PartialEvaluation


@dataclass(frozen=True, slots=True)
class Request:
    """What to evaluate.

    `config` says the environment, the agent, the policy and the panel; `frozen`, if given, is the panel instead. With
    `out`, finished episodes are kept beside it until the result is there.
    """

    config: Config
    policy: str  # as it was named
    samples: int = 1
    frozen: FrozenPanel | None = None
    out: Path | None = None


def run_evaluation(request: Request) -> Summary:
    """Play the panel and summarise it.

    Raises:
        ConfigError, DataError, CheckpointError: what cannot work, or an evaluation under way with other settings.
        PolicyError: no episode could be played.
    """
    _check_decoding(request)
    fixed = _held_out_panel(request)
    workers, card = _open_players(request.config)
    try:
        settings = _settings(request, fixed, card)
        plan = _plan(request, fixed)
        with _partial(request, fixed, settings) as partial:
            trajectories, wall_time_s = _play(workers, plan, partial)
            if problem := why_unplayed(trajectories, workers.max_context):
                if partial is not None:
                    partial.remove()  # or the same command would find nothing left to play
                raise PolicyError(f"Every episode {problem}")
            return summarise(trajectories, fixed.panel, settings, wall_time_s)
    finally:
        workers.close()


def partial_path(out: Path) -> Path:
    """Where the finished episodes of an evaluation that writes to `out` are kept."""
    return out.with_name(f"{out.name}.partial.jsonl")


def _check_decoding(request: Request) -> None:
    is_sampled = request.config.eval.temperature > 0 or request.policy in SCRIPTED
    if request.samples > 1 and not is_sampled:
        raise ConfigError(
            f"--samples {request.samples} at temperature 0 would play every task {request.samples} times alike. "
            "Give --temperature, for example 1."
        )


def _held_out_panel(request: Request) -> FrozenPanel:
    """The panel, checked against the training split; its options are those of the environment that is played."""
    config, frozen = request.config, request.frozen
    env = make_env(config.env.id, config.env.options)
    try:
        if request.policy in SCRIPTED:
            check_script(request.policy, env)
        options = lasting_options(env, config.env.options)
        if frozen is not None:
            check_panel(env, frozen)
            return FrozenPanel(frozen.panel, options, frozen.held_out_of)
        split = quoted_split(env, config.eval.split)
        panel = load_panel(env, split, config.eval.num_tasks or None, env_id=config.env.id)
        train = config.env.split if config.env.split in env.splits else env.splits[0]
        if split == train:
            return FrozenPanel(panel, options, None)
        assert_held_out(env, panel, train)
        return FrozenPanel(panel, options, train)
    finally:
        env.close()


def _open_players(config: Config) -> tuple[PanelWorkers, str | None]:
    """What plays, and the label of its agent card, if it has one."""
    name = config.policy.path
    if name in SCRIPTED:
        return _text_workers(config, scripted(name)), None
    from agentgym_rft.rollouts.build import load_card, open_workers

    card = load_card(config.agent)
    if name.startswith(ENDPOINT):
        return _text_workers(config, at_endpoint(name, card)), card_label(card)
    return open_workers(config), card_label(card)


def _text_workers(config: Config, make_player: Any) -> TextWorkers:
    if config.rollout.workers == "ray":
        raise ConfigError(
            f"Workers on Ray sample from a model; the policy '{config.policy.path}' plays in this process. "
            "Give --workers local, or processes."
        )
    return TextWorkers(env_maker(config), make_player, max_concurrency=config.policy.max_concurrency)


def _settings(request: Request, fixed: FrozenPanel, card: str | None) -> EvaluationSettings:
    config = request.config
    return EvaluationSettings(
        policy=request.policy,
        seed=config.run.seed,
        temperature=None if request.policy in SCRIPTED else config.eval.temperature,
        max_steps=config.eval.max_steps,
        samples=request.samples,
        card=card,
        options=fixed.options,
        held_out_of=fixed.held_out_of,
    )


def _plan(request: Request, fixed: FrozenPanel) -> EvaluationPlan:
    config = request.config
    return EvaluationPlan(
        fixed.panel.task_ids,
        temperature=config.eval.temperature,
        seed=config.run.seed,
        max_steps=config.eval.max_steps,
        samples=request.samples,
        step_timeout_s=config.rollout.step_timeout_s,
    )


@contextmanager
def _partial(request: Request, fixed: FrozenPanel, settings: EvaluationSettings) -> Iterator[PartialEvaluation | None]:
    """The finished episodes beside `out`, kept until the caller has written the result; None without `out`."""
    if request.out is None:
        yield None
        return
    config = request.config
    depends_on = protocol(fixed.panel, settings) | {
        "policy": settings.policy,
        "weights": _fingerprint(config.policy.path),
        "seed": settings.seed,
        "max_context": config.policy.max_context,
        "step_timeout_s": config.rollout.step_timeout_s,
    }
    partial = PartialEvaluation(partial_path(request.out), depends_on)
    try:
        yield partial
    finally:
        partial.close()


def _fingerprint(policy: str) -> str | None:
    """A hash over names, sizes and times of a model's files: a run that trained on has other weights. None if none."""
    if policy in SCRIPTED or policy.startswith(ENDPOINT):
        return None
    from agentgym_rft.rollouts.build import policy_dir

    files = sorted(path for path in policy_dir(policy).iterdir() if path.is_file())
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def _play(
    workers: PanelWorkers, plan: EvaluationPlan, partial: PartialEvaluation | None
) -> tuple[list[Trajectory], float]:
    """The trajectories and the seconds they took, those of an interrupted evaluation included."""
    finished: Mapping[str, Trajectory] = {} if partial is None else dict(partial.finished)
    before_s = 0.0 if partial is None else partial.elapsed_s
    num_episodes = len(plan.task_ids) * plan.samples
    if finished:
        typer.echo(f"going on: {len(finished)} of {num_episodes} episodes are there", err=True)
    start = time.perf_counter()
    with evaluation_progress(Console(file=sys.stderr), num_episodes, finished) as shown:

        def on_finished(trajectory: Trajectory) -> None:
            if partial is not None:
                partial.append(trajectory, before_s + time.perf_counter() - start)
            shown(trajectory)

        try:
            trajectories = evaluate(workers, plan, finished=finished, on_finished=on_finished)
        except KeyboardInterrupt:
            if partial is not None:
                kept = len(partial.finished)
                typer.echo(f"{kept} of {num_episodes} episodes are kept; the same command goes on.", err=True)
            raise
    return trajectories, before_s + time.perf_counter() - start
