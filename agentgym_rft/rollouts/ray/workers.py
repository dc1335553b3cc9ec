"""The driver's side of rollouts on Ray: sends each episode to a worker with a free place and waits for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.config.run import Config
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import EnvError, PolicyError, message_of
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork
from agentgym_rft.rollouts.episode.run import Episode
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.ray.actor_group import ActorGroup, Member, answer_of
from agentgym_rft.rollouts.ray.failures import LOST, NO_ROOM, first_line, no_room, own_error
from agentgym_rft.rollouts.ray.packing import pack
from agentgym_rft.rollouts.ray.places import Places
from agentgym_rft.rollouts.reflection.chat import ChatRequest
from agentgym_rft.rollouts.reflection.reflectors import Reflection, Reflector, SpokenReflector
from agentgym_rft.rollouts.seats import Agents, only_agent
from agentgym_rft.rollouts.workers.event_loop import EventLoop, Work

T = TypeVar("T")
_SPARE_CALLS = 16  # calls beside episodes: weights, replicas, and `live`, which never returns while the actor lives


class RayWorkers:
    """Runs episodes in worker processes that Ray places and connects.

    A worker plays many episodes on one event loop. It samples from a policy of its own or from shared replicas.

    Args:
        config: of the run.
        workers, replicas: the actors, all ready.
        reflector: reflects on episodes, in this process; by default the policy itself.
        disconnect: ends the connection to Ray.
        agents: those of an environment that names them; by default one agent with the card.
    """

    def __init__(
        self,
        config: Config,
        card: AgentCard,
        tokenizer: Any,
        workers: ActorGroup,
        replicas: ActorGroup | None = None,
        *,
        reflector: Reflector | None = None,
        disconnect: Callable[[], None] = lambda: None,
        agents: Agents = (),
    ) -> None:
        self.card = card
        self.agents = agents or only_agent(card, chat_format(tokenizer, card))
        self.max_context = config.policy.max_context
        self._section = config.rollout.ray
        self._workers = workers
        self._replicas = replicas
        self._newest = workers.newest
        self._faults = workers.faults
        self._reflector = reflector or SpokenReflector(card, self.reply, is_own=True)
        self._disconnect: Callable[[], None] | None = disconnect
        self._loop = EventLoop()
        self._places: tuple[asyncio.AbstractEventLoop, Places[Member]] | None = None
        self._attendants: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None  # once set, nothing is played any more

    @property
    def version(self) -> int:
        """The version of the weights that play."""
        return self._newest.version

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of all workers and replicas that ever were ready, each on the node where it ran."""
        return frozenset(pid for group in self._groups() for pid in group.pids)

    def living(self, kind: Literal["worker", "replica"] = "worker") -> dict[int, str]:
        """Return process ids of the workers or replicas that are ready, each with Ray's id of its node."""
        members = [each for group in self._groups() if group.kind == kind for each in group.members if each.is_ready]
        return {each.where.pid: each.where.node for each in members if each.where is not None}

    def run(self, work: Work[T]) -> T:
        """Run a coroutine that plays episodes and return its result."""
        return self._loop.run(work)

    def start(self) -> None:
        """Play in the background from now on, so that episodes go on between calls of `run` and `submit`."""
        self._loop.start()

    def submit(self, work: Work[T]) -> Future[T]:
        """Begin a coroutine in the background; `start` comes first."""
        return self._loop.submit(work)

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Return one episode, as soon as there is a place for it; with several agents, the trajectory of
        `spec.view`.
        """
        return (await self._played(lambda handle: handle.play.remote(spec), spec)).of(spec.view)

    async def record(self, spec: EpisodeSpec, start: Fork | None = None) -> EpisodeRecord:
        """Return one episode, from its beginning or from a fork, in whichever worker has a place.

        If its worker is lost, another one plays it again from the same seed, `max_replays` times at most. After that it
        is an errored trajectory of type `WorkerLost`.

        Raises `WorkersError` where too many workers were lost.
        """
        return await self._played(lambda handle: handle.record.remote(spec, start), spec, start)

    async def _played(self, begin: Callable[[Any], Any], spec: EpisodeSpec, start: Fork | None = None) -> EpisodeRecord:
        for attempt in range(self._section.max_replays + 1):
            self._faults["episode_replayed"] += attempt > 0
            try:
                played: EpisodeRecord = await self._ask(begin)
                return played
            except LOST as error:
                reason = error
            except EnvError as error:
                return self._errored(spec, start, type(error).__name__, message_of(error))
        self._faults["episode_given_up"] += 1
        tried = self._section.max_replays + 1
        message = f"The process that played it was lost, {tried} times. The last time: {first_line(reason)}"
        return self._errored(spec, start, "WorkerLost", message)

    def _errored(self, spec: EpisodeSpec, start: Fork | None, kind: str, message: str) -> EpisodeRecord:
        """Return what stands for an episode of which nothing came back: an error of all its agents, without turns."""
        error = {"type": kind, "message": message[:500], "turn": 0}
        return Episode(TextEnv(), self.agents, RoutedPolicy({}, ()), spec, start).record(StopReason.ENV_ERROR, error)

    async def reply(self, request: ChatRequest) -> Turn | None:
        """Return a free-standing reply of the policy, see `Completer.reply`; repeated as an episode is."""
        for attempt in range(self._section.max_replays + 1):
            self._faults["reply_repeated"] += attempt > 0
            try:
                turn: Turn | None = await self._ask(lambda handle: handle.reply.remote(request))
                return turn
            except LOST:
                continue
        self._faults["reply_given_up"] += 1
        raise PolicyError(f"'{request.key}' lost its worker {self._section.max_replays + 1} times.")

    async def reflect(self, played: EpisodeRecord) -> Reflection:
        """Return the reflector's report on an episode."""
        return await self._reflector.reflect(played)

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Play with these weights from now on: they go into the object store once, and every policy takes them.

        An actor that replaces a lost one starts with them.

        Raises:
            PolicyError: a policy refuses them.
            WorkersError: the object store has no room for them.
        """
        self._attend()
        try:
            packed = ray.put(pack(weights))
        except NO_ROOM as error:
            raise no_room(error) from error
        self._newest.packed, self._newest.version = packed, version
        group = self._replicas or self._workers
        await asyncio.gather(*(self._hand_over(group, member) for member in group.members if member.is_ready))

    def take_faults(self) -> dict[str, int]:
        """Return faults since the last call, by name; see docs/ray.md."""
        faults = {name: count for name, count in self._faults.items() if count}
        self._faults.clear()
        return faults

    def close(self) -> None:
        """End the background loop and all actors, and Ray if it was started here."""
        self._loop.close()
        if self._disconnect is None:
            return
        for group in self._groups():
            group.end()
        self._disconnect()
        self._disconnect = None

    def _groups(self) -> list[ActorGroup]:
        return [self._workers] if self._replicas is None else [self._workers, self._replicas]

    def _attend(self) -> Places[Member]:
        """Return the places of this event loop.

        A new loop also starts a task for each actor, which replaces it when it is lost.
        """
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        if self._places is None or self._places[0] is not loop:
            places: Places[Member] = Places()
            self._places = loop, places
            for group in self._groups():
                for member in group.members:
                    if group is self._workers and member.is_ready and not group.is_gone(member):
                        places.add(member, self._section.episodes_per_worker)
                    self._begin_task(self._look_after(group, member, places))
        return self._places[1]

    def _begin_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._attendants.add(task)
        task.add_done_callback(self._attendants.discard)

    async def _look_after(self, group: ActorGroup, member: Member, places: Places[Member]) -> None:
        """Wait for the end of an actor and put another one in its place, again and again."""
        try:
            while True:
                try:
                    if not member.is_ready and not member.is_lost:
                        await group.become_ready(member)
                        await self._introduce(group, member, places)
                    await answer_of(member.life)
                    return
                except RayActorError as error:
                    if self._failure is not None:
                        return
                    self._lose(group, member, places)
                    member = group.replace(member, error)
        except Exception as error:  # no caller would see it here, so all that play or wait raise it
            self._failure = error
            places.fail(error)
            for worker in self._workers.members:
                ray.kill(worker.handle)

    async def _introduce(self, group: ActorGroup, member: Member, places: Places[Member]) -> None:
        """Give a new worker its places, or tell the workers of a new replica."""
        if group is self._replicas:
            for worker in self._workers.handles().values():
                worker.set_replicas.remote(group.handles())
            return
        if self._replicas is not None:
            await answer_of(member.handle.set_replicas.remote(self._replicas.handles()))
        places.add(member, self._section.episodes_per_worker)

    def _lose(self, group: ActorGroup, member: Member, places: Places[Member]) -> None:
        """Note that an actor is gone, once."""
        if group.note_loss(member):
            places.remove(member)

    async def _hand_over(self, group: ActorGroup, member: Member) -> None:
        try:
            await group.hand_over(member)
        except RayActorError:  # lost: its replacement starts with the new weights
            self._lose(group, member, self._attend())

    async def _ask(self, send: Callable[[Any], Any]) -> Any:
        """Call a worker and return its result. Raises `RayActorError` if it is lost meanwhile."""
        places = self._attend()
        member = await places.take()
        answer = None
        try:
            answer = send(member.handle)
            told = await answer_of(answer)
        except RayActorError:
            self._lose(self._workers, member, places)
            raise
        except ObjectLostError:
            self._faults["result_lost"] += 1
            raise
        except RayTaskError as error:
            raise own_error(error) from error
        except NO_ROOM as error:
            raise no_room(error) from error
        except asyncio.CancelledError:
            if answer is not None:
                ray.cancel(answer)
            raise
        finally:
            places.give(member)
        self._faults.update(told.faults)
        return told.value
