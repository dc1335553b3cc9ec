"""A run of imitation, from its configuration to the model and its evaluation; what `agentgym sft` does.

OUT/config.yaml         the resolved configuration
OUT/metrics.jsonl       a row for each step
OUT/episodes.jsonl.zst  what the starting policy played, where it reports on its own episodes
OUT/checkpoints         while it trains
OUT/model               what came out, in Hugging Face format
OUT/evaluations         of the start (step 0) and of what came out
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from agentgym_rft.agents.card import AgentCard, load_card, today
from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.config.policy import PolicySection
from agentgym_rft.config.run import Config, EvalSection, RunSection
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.config.team import TeamSection
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import DataError
from agentgym_rft.evaluation.panel import configured_panel
from agentgym_rft.evaluation.players import check_script
from agentgym_rft.evaluation.run import Request, run_evaluation
from agentgym_rft.report.evaluation import Summary, read_evaluations, write_evaluation
from agentgym_rft.report.metrics import MetricsWriter, read_metrics
from agentgym_rft.report.sft_progress import NoSftProgress, SftProgress
from agentgym_rft.rollouts.policies import policy_dir, refused_as_data
from agentgym_rft.rollouts.seats import template_notes
from agentgym_rft.store.checkpoint import has_checkpoint
from agentgym_rft.store.run_dir import default_directory, opened
from agentgym_rft.store.under_way import under_way
from agentgym_rft.trainers.learner.interruption import interruptible
from agentgym_rft.trainers.sft.batches import batches
from agentgym_rft.trainers.sft.fit import progress, steps
from agentgym_rft.trainers.sft.train import start_policy, training_rows
from agentgym_rft.trainers.sft.trainee import Done, Trainee, make_trainee


@dataclass(frozen=True, slots=True)
class SftResult:
    """A run's directory, how far it came, and the summaries of its evaluations by step."""

    run_dir: Path
    num_steps: int
    is_interrupted: bool
    evaluations: tuple[tuple[int, Summary], ...]


def imitate(config: SftConfig, *, resume: Path | None = None, shown: SftProgress | None = None) -> SftResult:
    """Train a policy by imitation and evaluate it; returns after the step in which Ctrl-C was pressed, too.

    Args:
        config: fully resolved, as `check_sft` has let it pass; for a resumed run, the run's own.
        resume: directory of a run to go on with, from its newest good checkpoint.
    Raises:
        ConfigError, DataError, CheckpointError: refused before the first step.
        NumericsError, StorageError, RunError: the run failed; its last checkpoint stays usable.
    """
    shown = shown or NoSftProgress()
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    config = _dated(config)
    card = load_card(config.agent)
    run_dir = run_directory(config) if resume is None else resume.absolute()
    with _environment(config) as env, opened(run_dir, config, is_new=resume is None) as folder:
        if (folder / "model").is_dir():
            _check_made(folder / "model")
            shown.note("The model is there already.")
        else:
            if config.eval.at_start and config.init != "scratch" and not read_evaluations(folder):
                _evaluate(config, folder, 0, str(policy_dir(config.init)), shown)
            done, is_interrupted = _train(config, env, card, folder, shown, is_resumed=resume is not None)
            if is_interrupted:
                return SftResult(folder, done.steps, True, tuple(read_evaluations(folder)))
        num_steps = _last_step(folder)
        if all(step != num_steps for step, _ in read_evaluations(folder)):
            with _under_way(folder, lambda: True):
                _evaluate(config, folder, num_steps, str(folder / "model"), shown)
        return SftResult(folder, num_steps, False, tuple(read_evaluations(folder)))


def _check_made(made: Path) -> None:
    """Raise DataError if the model that a finished run left cannot be read."""
    try:
        load_model(made, device="cpu")
    except DataError as error:
        raise DataError(f"{error} The run was done; to train again, start it in another directory.") from error


def _dated(config: SftConfig) -> SftConfig:
    """Return the configuration with the day that chat templates are told, which a resumed run keeps."""
    return config.model_copy(update={"agent": config.agent.model_copy(update={"date": config.agent.date or today()})})


def run_directory(config: SftConfig) -> Path:
    """Return the directory of a run: the given one, or a new one named after environment and time."""
    if config.run.out:
        return Path(config.run.out).absolute()
    return default_directory("sft", config.env.id.rpartition("/")[2].lower())


@contextmanager
def _environment(config: SftConfig) -> Iterator[TextEnv]:
    """Give the environment, once it is known that what is asked of it can be done."""
    env = make_env(config.env.id, config.env.options)
    try:
        if config.sft.player == "expert":
            check_script("expert", env, config.env.id)
        if config.eval.num_tasks:
            configured_panel(env, evaluation_config(config, ""), whole_split=True)
        yield env
    finally:
        close_env(env)


def _train(
    config: SftConfig, env: TextEnv, card: AgentCard, folder: Path, shown: SftProgress, *, is_resumed: bool
) -> tuple[Done, bool]:
    """Train to the end of the budget and save the model, or to the step in which Ctrl-C was pressed."""
    model, tokenizer = start_policy(config, env, card)
    with refused_as_data(config.init):
        notes = template_notes(evaluation_config(config, ""), tokenizer)
    for note in notes:
        shown.note(note)
    rows = training_rows(config, env, card, model, tokenizer, folder / "episodes.jsonl.zst")
    trainee = make_trainee(model, config.sft, config.run.seed, shown.note)
    done = _restored(trainee, folder, shown) if is_resumed else Done()
    made = batches(rows, config.sft, trainee.scorer.layout, config.run.seed)
    left = islice(made, done.steps, None)  # the steps of before are made again, but not trained
    checkpoints, keep = folder / "checkpoints", config.run.keep_checkpoints
    shown.start(folder, config.sft.tokens, progress(done, config.sft))
    writer = MetricsWriter(folder / "metrics.jsonl", last_step=done.steps if is_resumed else None)
    with (
        closing(writer) as metrics,
        interruptible(shown.note) as interrupted,
        _under_way(folder, lambda: done.steps > 0),
    ):
        for row in steps(trainee, left, done):
            metrics.write(row)
            shown.step(row)
            is_last = row["progress"] >= 1
            if not is_last and (interrupted.is_set() or done.steps % config.run.checkpoint_every == 0):
                trainee.save(checkpoints, done, tokenizer, keep)
            if interrupted.is_set() and not is_last:
                return done, True
    with _under_way(folder, lambda: True):
        save_model(folder / "model", trainee.policy_model(), tokenizer)
    shutil.rmtree(checkpoints, ignore_errors=True)  # the model takes their place
    return done, False


def _under_way(folder: Path, has_begun: Callable[[], bool]) -> AbstractContextManager[None]:
    return under_way(folder, f"Make room and go on with: agentgym sft --resume {folder}", has_begun)


def _restored(trainee: Trainee, folder: Path, shown: SftProgress) -> Done:
    """Put the newest good checkpoint back, if there is one. Returns what was done by then."""
    if not has_checkpoint(folder / "checkpoints"):
        shown.note("The run has no checkpoint yet, so it starts again.")
        return Done()
    done = trainee.restore(folder / "checkpoints")
    shown.note(f"going on after step {done.steps}")
    return done


def _last_step(folder: Path) -> int:
    rows = read_metrics(folder / "metrics.jsonl")
    return int(rows[-1]["step"]) if rows else 0


def _evaluate(config: SftConfig, folder: Path, step: int, policy: str, shown: SftProgress) -> None:
    """Play the panel with a policy and save the summary in the run directory; nothing without a panel."""
    if not config.eval.num_tasks:
        return
    request = Request(evaluation_config(config, policy), f"{folder.name}@{step}")
    summary = run_evaluation(request, keep=lambda summary: write_evaluation(folder, step, summary))
    shown.evaluation(step, summary)


def evaluation_config(config: SftConfig, policy: str) -> Config:
    """Return the configuration of the evaluation of a policy."""
    return Config(
        env=config.env,
        agent=config.agent,
        policy=PolicySection(
            path=policy,
            device=config.device,
            num_threads=config.num_threads,
            max_context=config.model.max_context,
        ),
        team=TeamSection(seats=config.team.seats),
        eval=EvalSection(**config.eval.model_dump()),
        run=RunSection(seed=config.run.seed),
    )
