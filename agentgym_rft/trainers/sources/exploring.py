"""Plays without training: groups are written to an experience store, and another run trains on it now or later.

    process 1   agentgym train --store.replay_share=1 --store.path=S --out=RUN     takes groups, writes checkpoints
    process 2   agentgym explore --follow=RUN                                      takes up checkpoints, writes groups

Groups are played in rounds of `rollout.num_tasks`, each with the newest weights; a group is stored as soon as it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import AgentGymError
from agentgym_rft.rollouts.make import make_reflector, make_workers
from agentgym_rft.rollouts.outcome import why_unplayed
from agentgym_rft.rollouts.policies import load_policy_model, policy_section, sampling_dtype, serve
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.strategies import STRATEGIES
from agentgym_rft.rollouts.workers.base import Workers
from agentgym_rft.store.checkpoint import checkpoint_folders, load_checkpoint, restored
from agentgym_rft.store.experience import Accounting, ExperienceStore, vocabulary_of
from agentgym_rft.store.stored_groups import STORED_VERSION
from agentgym_rft.store.under_way import under_way
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.checks import check_exploration
from agentgym_rft.trainers.sources.explorer import Explorer
from agentgym_rft.trainers.sources.stored import EXPLORER, StoreFile

_POLL_S = 0.05
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exploration:
    """The settings of an exploration.

    Args:
        config: its `store.path` is the file.
        num_groups: groups in all, those of earlier parts included; None: until the run that trains on them ends.
        follow: run whose newest checkpoint plays; None: the policy stays as it is.
        is_start_of_run: the configured policy is the one that the followed run starts with, so it has version 0.
    """

    config: Config
    num_groups: int | None = None
    follow: Path | None = None
    is_start_of_run: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """The state after a round: the number of groups begun so far, and the version of the weights that played last."""

    num_begun: int
    version: int
    accounting: Accounting


def explore(plan: Exploration, *, is_stopped: Callable[[], bool], on_round: Callable[[Round], None]) -> Accounting:
    """Play groups into the store until there are enough, its reader has ended, or `is_stopped`.

    Only in the first case the store is marked as complete. A second call on the same store continues.

    Raises:
        ConfigError, DataError, CheckpointError: refused before the first episode.
        PolicyError: every episode of a round failed.
    """
    config = plan.config
    algorithm = build_algorithm(config.algorithm)
    strategy = STRATEGIES.lookup(config.rollout.strategy).play
    check_exploration(config)
    dtype = sampling_dtype(config.policy, torch.float32)
    model, tokenizer = load_policy_model(config.policy, dtype=dtype)
    file = StoreFile(Path(str(config.store.path)), vocabulary_of(tokenizer), EXPLORER)
    file.check()
    policy = None if config.rollout.workers == "ray" else serve(model, policy_section(config))
    workers = make_workers(config, tokenizer, policy, make_reflector(config), dtype=dtype)
    store = file.open()
    try:
        store.fill(EXPLORER)
        if not plan.is_start_of_run:
            workers.run(lambda: workers.load(model.state_dict(), STORED_VERSION))
        sampler = TaskSampler(_task_ids(config), config.run.seed, section=config.rollout.tasks)
        explorer = Explorer(config, config.rollout.num_tasks, workers, strategy, sampler, algorithm)
        rounds = _Rounds(plan, explorer, store)
        with under_way(file.path, "Make room, and the same command goes on.", lambda: rounds.num_begun > 0):
            return rounds.run(is_stopped, on_round)
    finally:
        store.close()
        workers.close()


class _Rounds:
    """The state of a running exploration."""

    def __init__(self, plan: Exploration, explorer: Explorer, store: ExperienceStore) -> None:
        self._plan = plan
        self._explorer = explorer
        self._store = store
        with restored(store.path, "state"):
            state = store.state or {}
            self.num_begun = int(state.get("begun", 0))
            if "sampler" in state:
                explorer.sampler.load_state_dict(state["sampler"])
        self._had_reader = store.reader_left  # an earlier run has ended; its end must not end this exploration

    def run(self, is_stopped: Callable[[], bool], on_round: Callable[[Round], None]) -> Accounting:
        workers = self._explorer.workers
        while self._num_left() > 0 and not is_stopped() and not self._is_reader_gone():
            if self._is_full():
                time.sleep(_POLL_S)
                continue
            if self._plan.follow is not None:
                _take_up(self._plan.follow, workers)
            self._play_round()
            on_round(Round(self.num_begun, workers.version, self._store.accounting()))
        if self._num_left() <= 0:
            self._store.finish()
        return self._store.accounting()

    def _num_left(self) -> int:
        most = self._explorer.groups_per_step
        return most if self._plan.num_groups is None else min(self._plan.num_groups - self.num_begun, most)

    def _is_reader_gone(self) -> bool:
        left = self._store.reader_left
        self._had_reader = self._had_reader and left
        return left and not self._had_reader

    def _is_full(self) -> bool:
        section = self._explorer.config.store
        return section.capacity is not None and self._store.num_waiting(1) >= section.capacity

    def _play_round(self) -> None:
        explorer, store = self._explorer, self._store
        tasks = explorer.sampler.draw(self._num_left())
        version = explorer.workers.version
        step = max(version, 0)
        numbers = range(self.num_begun, self.num_begun + len(tasks))
        self.num_begun += len(tasks)
        trajectories: list[Trajectory] = []
        seed = explorer.config.run.seed

        async def play(number: int, task_id: str) -> None:
            group = await explorer.play(explorer.plan(f"explore.{seed}.{number}", task_id, step))
            store.write(group, step, {"begun": self.num_begun, "sampler": explorer.sampler.state_dict()})
            trajectories.extend(group.trajectories)

        async def play_all() -> None:
            await asyncio.gather(*(play(number, task_id) for number, task_id in zip(numbers, tasks, strict=True)))

        explorer.workers.run(play_all)
        if problem := why_unplayed(trajectories, explorer.workers.max_context):
            raise problem.error("Every episode of a round")


def _take_up(run_dir: Path, workers: Workers) -> None:
    """Play with the newest good checkpoint of a run. One that is just being replaced is read later."""
    found = checkpoint_folders(run_dir / "checkpoints")
    if not found or found[-1][0] <= workers.version:
        return
    try:
        checkpoint = load_checkpoint(run_dir / "checkpoints")
        model, _ = load_model(checkpoint.model_dir, device="cpu", dtype=torch.float32)
    except (AgentGymError, OSError) as error:
        _log.warning("A checkpoint of '%s' could not be read: %s", run_dir, error)
        return
    weights: dict[str, Any] = model.state_dict()
    if checkpoint.step > workers.version:
        workers.run(lambda: workers.load(weights, checkpoint.step))


def _task_ids(config: Config) -> list[str]:
    env = make_env(config.env.id, config.env.options)
    try:
        return list(env.task_ids(config.env.split))
    finally:
        close_env(env)
