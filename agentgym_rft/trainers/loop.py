"""Training, top to bottom. `train_step` is the whole step: batch -> groups -> token table -> columns -> loss -> step ->
publish.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym_rft.agents.card import card_label, today
from agentgym_rft.config.run import Config
from agentgym_rft.core import Group, Trajectory
from agentgym_rft.evaluation.panel import make_settings, play_panel
from agentgym_rft.report.evaluation import read_evaluations, write_evaluation
from agentgym_rft.report.metrics import MetricsWriter
from agentgym_rft.report.progress import NoProgress, Progress
from agentgym_rft.rollouts.outcome import why_unplayed
from agentgym_rft.rollouts.seats import template_notes
from agentgym_rft.rollouts.workers.env_maker import num_cores
from agentgym_rft.store.checkpoint import has_checkpoint, restored
from agentgym_rft.store.run_dir import opened, run_directory
from agentgym_rft.store.trajectories import TrajectoryWriter
from agentgym_rft.store.under_way import under_way
from agentgym_rft.trainers.algorithms.operators import apply_operators
from agentgym_rft.trainers.batch.groups import by_seat, shared_out, split_errors
from agentgym_rft.trainers.batch.packing import minibatches
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.group import follow
from agentgym_rft.trainers.learner.interruption import interruptible
from agentgym_rft.trainers.learner.per_policy import joined_metrics
from agentgym_rft.trainers.learner.processes import Ranks, joined
from agentgym_rft.trainers.metrics import Metrics, idle_share, rollout_metrics, seat_metrics
from agentgym_rft.trainers.run import Parts, build
from agentgym_rft.trainers.sources.base import Batch
from agentgym_rft.trainers.sources.stored import SourceEnded


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run's directory and how far the run came."""

    run_dir: Path
    num_steps: int
    is_interrupted: bool
    evaluations: tuple[dict[str, Any], ...]  # summaries, first and last included


def train(config: Config, *, resume: Path | None = None, progress: Progress | None = None) -> RunResult:
    """Train a policy; returns when all steps are done, or after the step in which Ctrl-C was pressed.

    Args:
        config: fully resolved; for a resumed run, the run's own.
        resume: directory of a run to go on with, from its newest good checkpoint.
    Raises:
        ConfigError, RegistryError, DataError, CheckpointError: refused before the first rollout.
        PolicyError, TokenMismatchError, NumericsError, StorageError, RunError: the run failed; its last checkpoint
            stays usable.
    """
    with joined(config.trainer.parallel) as ranks:
        if ranks.rank:
            result: RunResult = follow(config, ranks)
            return result
        return _lead(config, resume, progress or NoProgress(), ranks)


def _lead(config: Config, resume: Path | None, progress: Progress, ranks: Ranks) -> RunResult:
    """Lead the run in the first process, which often is all of it."""
    folder = run_directory(config) if resume is None else resume.absolute()
    parts = build(_dated(config), folder, ranks)
    try:
        with opened(folder, parts.config, is_new=resume is None) as run_dir:
            result = _train(parts, run_dir, progress, is_resumed=resume is not None)
    finally:
        parts.source.close()
        parts.workers.close()
    parts.learners.dismiss(result)
    return result


def _dated(config: Config) -> Config:
    """Return the configuration with the day that chat templates are told, which a resumed run and a replay keep."""
    return config.model_copy(update={"agent": config.agent.model_copy(update={"date": config.agent.date or today()})})


@dataclass(slots=True)
class Done:
    """The work of a run so far, as its checkpoints keep it."""

    steps: int = 0
    time_s: float = 0.0  # of the steps alone, without evaluations and checkpoints
    generated_tokens: int = 0

    def is_all(self, config: Config) -> bool:
        """Return whether all steps are done, or all tokens sampled that the run may sample."""
        budget = config.trainer.max_generated_tokens
        return self.steps >= config.trainer.steps or (budget is not None and self.generated_tokens >= budget)


def _train(parts: Parts, run_dir: Path, progress: Progress, *, is_resumed: bool) -> RunResult:
    """Train to the last step, or to the one in which Ctrl-C was pressed, and keep what each step leaves."""
    config = parts.config
    done = restore_run(parts, run_dir) if is_resumed else Done()
    parts.source.begin(done.steps, parts.learners.weights)
    num_recorded = _begin_journal(parts, run_dir, done.steps, is_resumed)
    writer = MetricsWriter(run_dir / "metrics.jsonl", last_step=done.steps if is_resumed else None)
    trajectories = TrajectoryWriter(run_dir / "trajectories")
    progress.start(run_dir=run_dir, first_step=done.steps + 1, num_steps=config.trainer.steps)
    has_ended = False
    go_on = f"Make room and go on with: agentgym train --resume {run_dir}"
    begun = under_way(run_dir, go_on, lambda: done.steps > 0)
    with closing(writer) as metrics_file, interruptible(progress.note) as interrupted, begun:
        for note in template_notes(config, parts.tokenizer):
            progress.note(note)
        _say_where(done, config, num_recorded, progress, is_resumed=is_resumed)
        if done.steps == 0 and config.eval.at_start:
            _evaluate(parts, run_dir, 0, progress)
        while not (done.is_all(config) or interrupted.is_set()):
            try:
                row, batch = _counted_step(parts, done)
            except SourceEnded as end:
                progress.note(str(end))
                _evaluate(parts, run_dir, done.steps, progress)
                _save(parts, run_dir, done)
                has_ended = True
                break
            if config.run.save_trajectories and batch.is_sampled:
                trajectories.write(done.steps, all_trajectories(batch))
            is_last = done.is_all(config)
            if is_last or (config.eval.every and done.steps % config.eval.every == 0):
                row |= _evaluate(parts, run_dir, done.steps, progress)
            if parts.journaled is not None:
                row |= parts.journaled.take_counts()
            metrics_file.write(row)
            progress.step(done.steps, row)
            if is_last or interrupted.is_set() or done.steps % config.run.checkpoint_every == 0:
                _save(parts, run_dir, done)
    summaries = tuple(summary for _, summary in read_evaluations(run_dir))
    return RunResult(run_dir, done.steps, not (has_ended or done.is_all(config)), summaries)


def _say_where(done: Done, config: Config, num_recorded: int, progress: Progress, *, is_resumed: bool) -> None:
    """Tell where a resumed run goes on, or that there is nothing left to do."""
    if is_resumed and done.steps == 0:
        progress.note("The run has no checkpoint yet, so it starts again.")
    elif done.steps >= config.trainer.steps:
        progress.note(f"All of its {done.steps} steps are done. Give it more with --steps.")
    if num_recorded:
        progress.note(f"{num_recorded} completions were recorded after step {done.steps}: they are not sampled again.")


def _counted_step(parts: Parts, done: Done) -> tuple[Metrics, Batch]:
    """Do one step and count it in `done`. Returns its row of metrics and its batch. Raises `SourceEnded`."""
    start = time.perf_counter()
    metrics, batch = train_step(parts, done.steps)
    done.steps += 1
    done.time_s += time.perf_counter() - start
    done.generated_tokens += int(metrics["rollout/generated_tokens"])
    return {"step": done.steps, "time_s": done.time_s, **metrics}, batch


def train_step(parts: Parts, step: int) -> tuple[Metrics, Batch]:
    """Do one step (from 0), all of it: batch -> groups -> token table -> columns -> loss -> step -> publish.

    Returns the metrics and the batch. Each policy of the run, most often one, is trained on what it played itself.
    """
    config, start, used = parts.config, time.perf_counter(), time.process_time()
    batch = parts.source.batch(step)
    rolled_out = time.perf_counter()
    groups, metrics = trained_groups(parts, batch, step)
    trained: dict[str, Metrics] = {}
    for policy, learners, own in parts.learners.of(groups):
        table, rows = build_table(own, step, auxiliary=parts.algorithm.uses_auxiliary)
        if not rows:
            continue
        learners.columns(table, rows, step)
        for part in minibatches(rows, config.trainer, seed=config.run.seed, step=step):
            learners.loss(part)
            learners.step()
        trained[policy] = learners.metrics()
    metrics |= joined_metrics(trained)
    end = time.perf_counter()
    parts.source.publish(step + 1, parts.learners.weights)
    metrics |= {
        "time/rollout_s": rolled_out - start,
        "time/update_s": end - rolled_out,
        "time/idle_share": idle_share(time.process_time() - used, end - start, num_cores()),
        "speed/tokens_per_s": metrics.get("tokens/total", 0.0) / (end - start),
    }
    return metrics, batch


def trained_groups(parts: Parts, batch: Batch, step: int) -> tuple[list[Group], Metrics]:
    """Return the groups of a batch that are trained, as they are compared and with shaped rewards, and its metrics.

    Raises:
        PolicyError: every episode broke.
        ConfigError: no episode found room in the context.
    """
    baseline = parts.config.team.baseline
    played = by_seat(batch.groups, baseline)
    kept, errors = split_errors(played)
    if batch.labelled_groups is not None:
        kept = [group for group in batch.labelled_groups if group.trajectories]
    kept, dropped = apply_operators(parts.operators, kept + by_seat(batch.imitation_groups, baseline))
    groups = [parts.algorithm.shape(group) for group in shared_out(kept)]
    faults = {f"fault/{name}": float(count) for name, count in parts.workers.take_faults().items()}
    tasks = parts.explorer.sampler.metrics()
    outcomes = rollout_metrics(played, errors) | seat_metrics(played)
    metrics = {**outcomes, **batch.metrics, **dropped, **tasks, **faults}
    if not batch.is_sampled:
        metrics |= {"rollout/turns": 0.0, "rollout/generated_tokens": 0.0}
    if problem := why_unplayed(all_trajectories(batch), parts.workers.max_context):
        raise problem.error(f"Every episode of step {step + 1}")
    return groups, metrics


def all_trajectories(batch: Batch) -> list[Trajectory]:
    """Return the trajectories of a batch, errored ones included."""
    return [trajectory for group in batch.groups for trajectory in group.trajectories]


def _evaluate(parts: Parts, run_dir: Path, step: int, progress: Progress) -> Metrics:
    """Play the panel and save the summary in the run directory. Returns its metrics; none without a panel."""
    if parts.panel is None:
        return {}
    settings = make_settings(parts.config, f"{run_dir.name}@{step}", card_label(parts.workers.card))
    with parts.source.newest(step, parts.learners.weights):
        result = play_panel(parts.workers, parts.config, parts.panel, settings)
    if result.problem and step == 0:  # later, it may be a passing fault of the environment, and is recorded as one
        raise result.problem.error("Every episode of the first evaluation")
    write_evaluation(run_dir, step, result.summary)
    progress.evaluation(step, result.summary)
    return {f"eval/{key}": result.summary[key] for key in ("success", "score", "mean_turns")}


def _save(parts: Parts, run_dir: Path, done: Done) -> None:
    state = {"source": parts.source.state_dict(), "time_s": done.time_s, "generated_tokens": done.generated_tokens}
    keep = parts.config.run.keep_checkpoints
    parts.learners.save(run_dir / "checkpoints", done.steps, state, keep)
    if parts.journaled is not None:
        parts.journaled.checkpointed(done.steps, keep)


def _begin_journal(parts: Parts, run_dir: Path, done: int, is_resumed: bool) -> int:
    """Record what is sampled from now on; returns how much is recorded already that comes after step `done`."""
    if parts.journaled is None:
        return 0
    return parts.journaled.begin(run_dir / "journal", done, is_new=not is_resumed)


def restore_run(parts: Parts, run_dir: Path) -> Done:
    """Put the newest good checkpoint back, if there is one. Returns what was done by then."""
    if not has_checkpoint(run_dir / "checkpoints"):
        return Done()
    checkpoint = parts.learners.restore(run_dir / "checkpoints")
    state = checkpoint.state
    with restored(checkpoint.path, "state"):
        parts.source.load_state_dict(state["source"])
        return Done(checkpoint.step, float(state["time_s"]), int(state["generated_tokens"]))
