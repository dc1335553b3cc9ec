"""The program in the process of a `ProcessEnv`: it hosts environments and answers one request at a time.

Requests and replies are pickled and sent over a socket, not over standard output, so an environment may print. The
process leads a session of its own, so all processes that it started end with it.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentgym_rft import errors
from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.envs.forks import Lineage, end_fork
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.process.channel import Channel

PLAYERS = ("expert", "oracle", "random_player", "resumed_expert", "seat_player")


class Request(NamedTuple):  # these three are tuples because they are pickled three times as fast as dataclasses
    """A request: the number of the environment, the name of an operation and its arguments."""

    env: int
    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


class Failure(NamedTuple):
    """An exception as text: a class name of `agentgym_rft.errors`, the message, and the traceback or nothing."""

    kind: str
    message: str
    where: str = ""


class Reply(NamedTuple):
    """The result of a request, and the state of the environment's random generator after it; None: unchanged."""

    value: Any
    rng_state: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The attributes of a `TextEnv` that do not change."""

    splits: tuple[str, ...]
    can_snapshot: bool
    has_lessons: bool
    observation_space: Any
    action_space: Any
    seats: Mapping[str, str]


def main(descriptor: int) -> None:
    """Serve the environments that are asked for, until the other side closes them or goes away."""
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        channel.put(pickled(Reply("ready")))
        channel.flush()
        serve(channel)
    except (EOFError, ConnectionError):
        _end()


def serve(channel: Channel) -> None:
    """Answer requests in their order, until one closes the host."""
    host = Host()
    messages: deque[bytes] = deque()
    while not host.is_closed:
        while not messages:
            messages.extend(channel.take())
        channel.put(pickled(host.answer(messages.popleft())))
        channel.flush()  # at once: if the next call hangs or crashes, a waiting answer would be lost


def _end() -> None:
    """End at once, with all that this process has started."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def pickled(reply: Reply | Failure) -> bytes:
    """Return a reply as bytes; where the value cannot be sent, a failure that says so."""
    try:
        return pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # pickling runs code of whatever the environment returned
        problem = f"What the environment returned cannot be sent: {type(error).__name__}: {error}"
        return pickle.dumps(Failure("EnvError", problem))


@dataclass(slots=True)
class Hosted:
    """An environment, the players made from it, and the generator state that its owner knows."""

    env: TextEnv
    players: list[Expert] = field(default_factory=list)
    known_state: Mapping[str, Any] | None = None

    def reply(self, value: Any) -> Reply:
        state = self.env.np_random.bit_generator.state
        if state == self.known_state:
            return Reply(value)
        self.known_state = state
        return Reply(value, state)


class Host:
    """The environments of this process."""

    def __init__(self) -> None:
        self._hosted: dict[int, Hosted] = {}
        self.is_closed = False

    def answer(self, message: bytes) -> Reply | Failure:
        """Carry out a pickled `Request` and return its reply."""
        depth = Lineage.depth
        problem: BaseException | None = None
        try:
            return self._call(pickle.loads(message))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the edge of the process: whatever an environment raises is sent as data
            problem = error
            return failure(error)
        finally:
            if Lineage.depth != depth:
                end_fork(problem)

    def _call(self, request: Request) -> Reply:
        if request.name == "make":
            return self._make(request.env, *request.args)
        if request.name == "close":
            self._close()
            return Reply(None)
        if request.name == "drop":
            self._drop(request.env)
            return Reply(None)
        hosted = self._hosted[request.env]
        if request.name == "act":
            return hosted.reply(_act(hosted.players, *request.args))
        if request.name in ("reset", "restore"):
            hosted.players.clear()
        value = _methods(hosted.env)[request.name](*request.args, **request.kwargs)
        if request.name in PLAYERS and value is not None:
            hosted.players.append(value)
            value = len(hosted.players) - 1
        return hosted.reply(list(value) if request.name == "task_ids" else value)

    def _make(self, number: int, id: str, options: dict[str, Any], rng_state: Mapping[str, Any] | None) -> Reply:
        env = make_env(id, options)
        if rng_state is not None:
            env.np_random.bit_generator.state = rng_state
        self._hosted[number] = hosted = Hosted(env)
        spaces = env.observation_space, env.action_space
        facts = Facts(env.splits, env.can_snapshot, env.has_lessons, *spaces, dict(env.seats))
        return hosted.reply(facts)

    def _drop(self, number: int) -> None:
        hosted = self._hosted.pop(number, None)  # None if making it failed
        if hosted is not None:
            hosted.env.close()

    def _close(self) -> None:
        self.is_closed = True
        while self._hosted:
            self._hosted.popitem()[1].env.close()


def _act(players: list[Expert], player: int, observation: str) -> str:
    if player >= len(players):
        raise errors.EnvError("This player belongs to an episode that is over; make a new one.")
    return players[player].act(observation)


def _methods(env: TextEnv) -> dict[str, Callable[..., Any]]:
    """Return the operations by name."""
    return {
        "task_ids": env.task_ids,
        "task_content": env.task_content,
        "reset": env.reset,
        "step": env.step,
        "snapshot": env.snapshot,
        "restore": env.restore,
        "remaining": env.remaining,
        "lesson": env.lesson,
        "quiz": env.quiz,
        "expert": env.expert,
        "oracle": env.oracle,
        "random_player": env.random_player,
        "resumed_expert": env.resumed_expert,
        "seat_player": env.seat_player,
        "noop": env.noop,
    }


def failure(error: BaseException) -> Failure:
    """Return an exception as data: the nearest class of `agentgym_rft.errors`, else an `EnvError` that names the type.

    Only the latter say where they were raised: the others are sentences for people.
    """
    for kind in type(error).__mro__:
        if kind.__module__ == errors.__name__:
            return Failure(kind.__name__, errors.message_of(error))
    where = "".join(traceback.format_exception(error)).rstrip()
    return Failure("EnvError", f"{type(error).__name__}: {errors.message_of(error)}", where)
