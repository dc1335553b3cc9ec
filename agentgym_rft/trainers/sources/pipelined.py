"""Sources that play while the trainer trains: a fixed number of batches ahead, or as bounded staleness lets them."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from agentgym_rft.core import Group, Turn
from agentgym_rft.trainers.sources.base import Batch, Weights
from agentgym_rft.trainers.sources.explorer import Explorer


def scheduled_version(batch: int, interval: int, offset: int) -> int:
    """Return the version of the weights that play batch t (from 1): t - 1 minus its lag, offset + (t - 1 - offset) mod
    interval.

    Interval 1 and offset 0 are strictly on-policy, offset 1 is one step off. The first `offset` batches are played with
    the weights of the start, version 0. Source of the lag: Trinity-RFT, arXiv 2505.17826, its synchronisation interval
    and offset.
    """
    lag = offset + (batch - 1 - offset) % interval
    return max(batch - 1 - lag, 0)


class LaggedSource:
    """Plays batches in order, `offset` of them ahead of the trainer, each with the weights that the schedule names.

    Each episode is sampled by one version, so the same seed gives the same weights, as with `sync`.
    """

    def __init__(self, explorer: Explorer, *, interval: int, offset: int) -> None:
        self._explorer = explorer
        self._workers = explorer.workers
        self._interval, self._offset = interval, offset
        self._num_steps = explorer.config.trainer.steps
        self._first_version = 0
        self._snapshots: dict[int, Mapping[str, Any]] = {}  # weights by version, those that a batch may still need
        self._rolling: dict[int, Future[list[Group]]] = {}  # by number of the batch, from 1
        self._before: dict[int, dict[str, Any]] = {}  # the sampler's state before each of them
        self._last: Future[list[Group]] | None = None

    def begin(self, version: int, weights: Weights) -> None:
        self._first_version = version
        self._snapshots[version] = _copied(weights())
        self._workers.start()

    def batch(self, step: int) -> Batch:
        number = step + 1
        for ahead in range(number, min(number + self._offset, self._num_steps) + 1):
            if ahead not in self._rolling:
                self._rolling[ahead] = self._begin_batch(ahead)
        groups = self._rolling[number].result()
        del self._rolling[number], self._before[number]
        return Batch(groups, metrics=staleness_metrics(groups, step))

    def publish(self, version: int, weights: Weights) -> None:
        if version % self._interval == 0:
            self._snapshots[version] = _copied(weights())

    @contextmanager
    def newest(self, version: int, weights: Weights) -> Iterator[None]:
        for rolling in list(self._rolling.values()):
            rolling.exception()  # waits; what went wrong is raised when the batch is asked for
        if self._workers.version != version:
            self._workers.run(lambda: self._workers.load(weights(), version))
        yield

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler's state before the first untrained batch, so that a resume plays the begun batches
        again.
        """
        if self._rolling:
            first = min(self._rolling)
            self._rolling[first].exception()
            return {"sampler": self._before[first]}
        return {"sampler": self._explorer.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._explorer.sampler.load_state_dict(state["sampler"])

    def close(self) -> None:
        """Do nothing: the workers cancel what runs."""

    def _begin_batch(self, number: int) -> Future[list[Group]]:
        version = max(scheduled_version(number, self._interval, self._offset), self._first_version)
        for old in [known for known in self._snapshots if known < version]:
            del self._snapshots[old]
        weights, before = self._snapshots[version], self._last

        async def roll() -> list[Group]:
            if before is not None:
                await asyncio.wrap_future(before)
            self._before[number] = self._explorer.sampler.state_dict()
            if self._workers.version != version:
                await self._workers.load(weights, version)
            return await self._explorer.collect(number - 1)

        self._last = self._workers.submit(roll)
        return self._last


@dataclass(frozen=True, slots=True)
class _Planned:
    """A group that was drawn and is not trained yet: its number, its task, and the step it was drawn in."""

    number: int
    task_id: str
    step: int


class AsyncSource:
    """Plays groups without a break; a batch is the first of them to finish. Running episodes take up new weights.

    A group whose oldest turn lags more than `max_staleness` versions behind the weights that would be trained on it is
    dropped and counted, and another takes its place. Every group that was drawn is trained once, dropped with a reason,
    or pending, which the metrics `queue/...` say at every step.

    With `pauses` (partial rollouts) nothing is played while the trainer trains. More groups are begun than a step
    needs; playing stops when enough of them are done, and the others continue under the next weights. Source: APRIL,
    arXiv 2509.18521.

    Args:
        ahead: groups that may be under way or waiting while the trainer trains.
    """

    def __init__(self, explorer: Explorer, *, ahead: int, max_staleness: int, pauses: bool = False) -> None:
        self._explorer = explorer
        self._workers = explorer.workers
        self._rollout = explorer.config.rollout
        self._interval = explorer.config.trainer.sync_interval
        self._ahead, self._max_staleness, self._pauses = ahead, max_staleness, pauses
        self._pending: dict[int, _Planned] = {}
        self._finished: queue.SimpleQueue[tuple[_Planned, Group | Exception]] = queue.SimpleQueue()
        self._num_drawn = 0
        self._counts: Counter[str] = Counter()
        self._gate: threading.Event | None = None  # the paused event loop waits for it
        self._loading: Future[None] | None = None

    def begin(self, version: int, weights: Weights) -> None:
        if self._workers.version != version:
            self._workers.run(lambda: self._workers.load(weights(), version))
        self._workers.start()
        for planned in self._pending.values():  # groups that the resumed run had drawn
            self._play(planned)

    def batch(self, step: int) -> Batch:
        self._go_on()
        groups: list[Group] = []
        num_tasks = self._explorer.groups_per_step
        most = num_tasks * (self._rollout.max_resample + 1)
        num_useful = 0
        while num_useful < num_tasks and len(groups) < most:
            self._top_up(step, num_tasks - num_useful)
            planned, outcome = self._finished.get()
            if isinstance(outcome, Exception):
                raise outcome
            del self._pending[planned.number]
            self._explorer.sampler.observe(outcome)  # here, because only this thread uses the sampler
            if staleness(outcome, step) > self._max_staleness:
                self._counts["dropped_stale"] += 1
                continue
            groups.append(outcome)
            num_useful += not self._rollout.max_resample or self._explorer.gives_signal(outcome)
        self._counts["trained"] += len(groups)
        self._top_up(step, 0)
        if self._pauses:
            self._pause()
        return Batch(groups, metrics=staleness_metrics(groups, step) | self._queue_metrics())

    def publish(self, version: int, weights: Weights) -> None:
        """Give the workers new weights; running episodes use them from the next forward pass on."""
        if version % self._interval == 0:
            self._loading = self._workers.submit(lambda: self._workers.load(weights(), version))
            if self._gate is None:
                self._go_on()

    @contextmanager
    def newest(self, version: int, weights: Weights) -> Iterator[None]:
        self._go_on()
        if self._workers.version != version:
            self._workers.run(lambda: self._workers.load(weights(), version))
        yield

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the groups that were drawn and not trained.
        A resume plays these before it draws new ones.
        """
        pending = [[planned.number, planned.task_id, planned.step] for planned in self._pending.values()]
        sampler = self._explorer.sampler.state_dict()
        return {"sampler": sampler, "pending": pending, "drawn": self._num_drawn, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._explorer.sampler.load_state_dict(state["sampler"])
        self._pending = {number: _Planned(number, task_id, step) for number, task_id, step in state["pending"]}
        self._num_drawn = int(state["drawn"])
        self._counts = Counter(state["counts"])

    def close(self) -> None:
        """Release a paused event loop, so that the workers can cancel what runs."""
        self._release()

    def _top_up(self, step: int, num_missing: int) -> None:
        """Draw and begin groups until enough are under way for what this batch misses, and `ahead` more."""
        num_new = num_missing + self._ahead - len(self._pending)
        if num_new <= 0:
            return
        for task_id in self._explorer.sampler.draw(num_new):
            planned = _Planned(self._num_drawn, task_id, step)
            self._num_drawn += 1
            self._pending[planned.number] = planned
            self._play(planned)

    def _play(self, planned: _Planned) -> None:
        plan = self._explorer.plan(f"async.{planned.number}", planned.task_id, planned.step)

        async def play() -> None:
            try:
                self._finished.put((planned, await self._explorer.strategy(plan, self._workers)))
            except Exception as error:  # the trainer's thread raises it
                self._finished.put((planned, error))

        self._workers.submit(play)

    def _pause(self) -> None:
        gate = self._gate = threading.Event()

        async def hold() -> None:
            gate.wait()  # blocks the whole event loop: nothing plays until the gate opens

        self._workers.submit(hold)

    def _release(self) -> None:
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    def _go_on(self) -> None:
        """Continue to play, with the published weights."""
        self._release()
        if self._loading is not None:
            self._loading.result()
            self._loading = None

    def _queue_metrics(self) -> dict[str, float]:
        return {
            "queue/drawn": float(self._num_drawn),
            "queue/trained": float(self._counts["trained"]),
            "queue/dropped_stale": float(self._counts["dropped_stale"]),
            "queue/pending": float(len(self._pending)),
        }


def staleness(group: Group, version: int) -> int:
    """Return by how many versions the oldest sampled turn of a group lags; 0 for a group without a turn."""
    oldest = [trajectory.oldest_version for trajectory in group.trajectories]
    return version - min((number for number in oldest if number is not None), default=version)


def staleness_metrics(groups: Sequence[Group], version: int) -> dict[str, float]:
    """Return `staleness/mean` and `/max` over the turns of a batch, in versions; `/mixed`: share sampled under
    several.
    """
    turns: list[Turn] = [turn for group in groups for trajectory in group.valid for turn in trajectory.turns]
    lags = [version - turn.policy_version for turn in turns]
    return {
        "staleness/mean": sum(lags) / max(len(lags), 1),
        "staleness/max": float(max(lags, default=0)),
        "staleness/mixed": sum(turn.last_version is not None for turn in turns) / max(len(turns), 1),
    }


def _copied(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy that training does not change."""
    return {name: tensor.detach().clone() for name, tensor in weights.items() if isinstance(tensor, Tensor)}
