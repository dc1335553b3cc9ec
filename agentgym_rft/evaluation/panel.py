"""A held-out panel, played and summarised: the evaluation of a training run and of `agentgym eval`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.panels import Panel, checked_panel, held_out_panel, lasting_options, quoted_split
from agentgym_rft.evaluation.partial import PartialEvaluation
from agentgym_rft.evaluation.players import check_script
from agentgym_rft.evaluation.progress import EvaluationProgress, NoEvaluationProgress
from agentgym_rft.report.evaluation import EvaluationSettings, Summary, summarise
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.outcome import Unplayed, why_unplayed
from agentgym_rft.rollouts.seats import SCRIPTS
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.event_loop import Work

T = TypeVar("T")


class PanelWorkers(Protocol):
    """Play episodes: `LocalWorkers` or `AgentWorkers`."""

    @property
    def max_context(self) -> int: ...

    def run(self, work: Work[T]) -> T: ...

    async def play(self, spec: EpisodeSpec) -> Trajectory: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The tasks of a panel, and how each is played: `samples` times, each with a seed of its own."""

    task_ids: Sequence[str]
    temperature: float
    seed: int
    max_steps: int
    samples: int = 1
    step_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class PanelResult:
    """The summary of a panel that was played.

    `problem` says how every episode failed before it could count; None if one did not.
    """

    summary: Summary
    problem: Unplayed | None


def configured_panel(env: TextEnv, config: Config, *, whole_split: bool = False) -> Panel:
    """Return the panel that the configuration asks for, held out of the split that it trains on.

    With `whole_split`, for a training run, no task of the panel's split may be a training task, whether it is in the
    panel or not. An evaluation may be configured for the split of another environment: it takes the first instead.

    Raises:
        DataError: there is no such split, it is empty, or the panel shares a task with the training split.
    """
    train_split = config.env.split if whole_split or config.env.split in env.splits else None
    split, num_tasks = quoted_split(env, config.eval.split), config.eval.num_tasks or None
    return held_out_panel(
        env,
        config.env.options,
        split,
        num_tasks,
        env_id=config.env.id,
        train_split=train_split,
        whole_split=whole_split,
    )


def open_panel(config: Config, policies: Set[str], frozen: Panel | None = None) -> Panel:
    """Return the panel of an evaluation, with the options of the environment that is played.

    Args:
        policies: who plays it.
        frozen: the panel to play instead of the configured one.
    Raises:
        ConfigError: the environment lacks a script that is to play.
        DataError: as `configured_panel`; a task is not the frozen one.
    """
    env = make_env(config.env.id, config.env.options)
    try:
        for policy in policies & set(SCRIPTS):
            check_script(policy, env, config.env.id)
        if frozen is None:
            return configured_panel(env, config)
        return replace(checked_panel(env, frozen), options=lasting_options(env, config.env.options))
    finally:
        close_env(env)


def make_settings(
    config: Config, policy: str, card: str | None, *, samples: int = 1, is_scripted: bool = False
) -> EvaluationSettings:
    """Return what a result depends on besides the panel.

    Args:
        policy: its label in the result.
        card: the label of the agent card; None where only scripts play.
        is_scripted: nothing is sampled, so that there is no temperature.
    """
    return EvaluationSettings(
        policy=policy,
        seed=config.run.seed,
        temperature=None if is_scripted else config.eval.temperature,
        max_steps=config.eval.max_steps,
        samples=samples,
        card=card,
    )


def make_plan(config: Config, task_ids: Sequence[str], samples: int) -> EvaluationPlan:
    """Return how the tasks of a panel are played."""
    return EvaluationPlan(
        task_ids,
        temperature=config.eval.temperature,
        seed=config.run.seed,
        max_steps=config.eval.max_steps,
        samples=samples,
        step_timeout_s=config.rollout.step_timeout_s,
    )


def play_panel(
    workers: PanelWorkers,
    config: Config,
    panel: Panel,
    settings: EvaluationSettings,
    *,
    partial: PartialEvaluation | None = None,
    progress: EvaluationProgress | None = None,
) -> PanelResult:
    """Play the panel and summarise it.

    Args:
        partial: keeps the episodes that end; those that it has already are not played again.
        progress: is told about them.
    """
    plan, shown = make_plan(config, panel.task_ids, settings.samples), progress or NoEvaluationProgress()
    num_episodes = len(plan.task_ids) * plan.samples
    finished: Mapping[str, Trajectory] = {} if partial is None else dict(partial.finished)
    start = time.perf_counter() - (0.0 if partial is None else partial.elapsed_s)

    def on_finished(trajectory: Trajectory) -> None:
        if partial is not None:
            partial.append(trajectory, time.perf_counter() - start)
        shown.episode(trajectory)

    if finished:
        shown.note(f"going on: {len(finished)} of {num_episodes} episodes are there")
    shown.start(num_episodes, finished.values())
    try:
        trajectories = evaluate(workers, plan, finished=finished, on_finished=on_finished)
    except KeyboardInterrupt:
        if partial is not None:
            shown.note(f"{len(partial.finished)} of {num_episodes} episodes are kept; the same command goes on.")
        raise
    finally:
        shown.finish()
    summary = summarise(trajectories, panel, settings, time.perf_counter() - start)
    return PanelResult(summary, why_unplayed(trajectories, workers.max_context))


def evaluate(
    workers: PanelWorkers,
    plan: EvaluationPlan,
    *,
    finished: Mapping[str, Trajectory] | None = None,
    on_finished: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Return the trajectories in the order of the panel, the samples of a task one after the other.

    Errors are trajectories with a stop reason, not failures.

    Args:
        finished: episodes that were played before, by their id; they are not played again.
        on_finished: called with each episode played now, as it ends.
    """
    known = dict(finished or {})

    async def one(spec: EpisodeSpec) -> Trajectory:
        if spec.episode_id in known:
            return known[spec.episode_id]
        trajectory = await workers.play(spec)
        if on_finished is not None:
            on_finished(trajectory)
        return trajectory

    async def play_all() -> list[Trajectory]:
        specs = [_spec(workers, plan, task_id, sample) for task_id in plan.task_ids for sample in range(plan.samples)]
        return list(await asyncio.gather(*map(one, specs)))

    return workers.run(play_all)


def _spec(workers: PanelWorkers, plan: EvaluationPlan, task_id: str, sample: int) -> EpisodeSpec:
    """Return what an episode is played with. The first sample is the one of an evaluation with one sample a task."""
    parts = (task_id,) if sample == 0 else (task_id, sample)
    return EpisodeSpec(
        task_id=task_id,
        group_id=task_id,
        episode_id="eval/" + "#".join(map(str, parts)),
        seed=derive_seed(plan.seed, "eval", *parts),
        temperature=plan.temperature,
        max_steps=plan.max_steps,
        max_context=workers.max_context,
        step_timeout_s=plan.step_timeout_s,
    )
