"""What runs in the process of a `ProcessEnv`: one environment, called one request at a time.

Requests and replies are pickled over a socket that is nobody's standard output, so an environment may print what it
likes. The process is the leader of a session of its own: whatever it has started ends with it.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from agentgym_rft import errors
from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.envs.making import make_env

PLAYERS = ("expert", "oracle", "resumed_expert")


@dataclass(frozen=True, slots=True)
class Request:
    """A call: the name of an operation and its arguments."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as text: a class name of `agentgym_rft.errors`, the message, and the traceback or nothing."""

    kind: str
    message: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call gave, and the state of the environment's generator after it (None before there is one)."""

    value: Any
    rng_state: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a `TextEnv` says about itself."""

    splits: tuple[str, ...]
    can_snapshot: bool
    has_lessons: bool
    observation_space: Any
    action_space: Any


def main(descriptor: int) -> None:
    """Serve the environment that the first request makes, until the other side closes it or goes away."""
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    connection.send(Reply("ready"))
    host = Host()
    while True:
        message = requests.get()
        connection.send_bytes(_pickled(host.answer(message)))
        if host.is_closed:
            return


def _receive(connection: Connection, requests: queue.SimpleQueue[bytes]) -> None:
    """Queue what arrives. When nobody is left to answer, end at once, with all that this process has started.

    In a thread, because the environment may be busy, or hang, when its owner dies.
    """
    try:
        while True:
            requests.put(connection.recv_bytes())
    except (EOFError, OSError):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _pickled(reply: Reply | Failure) -> Any:
    try:
        return ForkingPickler.dumps(reply)
    except Exception as error:  # pickling runs code of whatever the environment returned
        return ForkingPickler.dumps(
            Failure("EnvError", f"What the environment returned cannot be sent: {type(error).__name__}: {error}")
        )


class Host:
    """The environment and the players that it was asked for."""

    def __init__(self) -> None:
        self._env: TextEnv | None = None
        self._players: list[Expert] = []
        self.is_closed = False

    def answer(self, message: bytes) -> Reply | Failure:
        """Carry out a pickled `Request`."""
        try:
            value = self._call(pickle.loads(message))
            return Reply(value, self._rng_state())
        except (Exception, SystemExit) as error:  # the border of the process: whatever is raised becomes data
            return failure(error)

    def _call(self, request: Request) -> Any:
        if request.name == "make":
            return self._make(*request.args)
        env = self._env
        if request.name == "close":
            self.is_closed = True
            return None if env is None else env.close()
        assert env is not None, "making the environment is the first request"
        if request.name == "act":
            return self._act(*request.args)
        if request.name in ("reset", "restore"):
            self._players.clear()
        value = _methods(env)[request.name](*request.args, **request.kwargs)
        if request.name in PLAYERS:
            self._players.append(value)
            return len(self._players) - 1
        return list(value) if request.name == "task_ids" else value

    def _make(self, id: str, options: dict[str, Any], rng_state: dict[str, Any] | None) -> Facts:
        env = make_env(id, options)
        if rng_state is not None:
            env.np_random.bit_generator.state = rng_state
        self._env = env
        return Facts(env.splits, env.can_snapshot, env.has_lessons, env.observation_space, env.action_space)

    def _act(self, player: int, observation: str) -> str:
        if player >= len(self._players):
            raise errors.EnvError("This player belongs to an episode that is over; make a new one.")
        return self._players[player].act(observation)

    def _rng_state(self) -> dict[str, Any] | None:
        return None if self._env is None else dict(self._env.np_random.bit_generator.state)


def _methods(env: TextEnv) -> dict[str, Callable[..., Any]]:
    """What can be asked for, by name."""
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
        "resumed_expert": env.resumed_expert,
    }


def failure(error: BaseException) -> Failure:
    """An exception as data: the nearest class of `agentgym_rft.errors`, else an `EnvError` that names the type.

    Only the latter say where they were raised: the others are sentences for people.
    """
    for kind in type(error).__mro__:
        if kind.__module__ == errors.__name__:
            return Failure(kind.__name__, str(error))
    where = "".join(traceback.format_exception(error)).rstrip()
    return Failure("EnvError", f"{type(error).__name__}: {error}", where)
