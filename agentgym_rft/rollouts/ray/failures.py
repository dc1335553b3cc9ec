"""Turns Ray's exceptions into the package's own."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from ray import cloudpickle
from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError, RayActorError, RayTaskError

from agentgym_rft.envs.process.child import failure
from agentgym_rft.envs.process.worker import exception
from agentgym_rft.errors import AgentGymError, ConfigError, EnvError, WorkersError, message_of

P = ParamSpec("P")
T = TypeVar("T")
LOST = (RayActorError, ObjectLostError)  # no answer: the process died, or the node that held its answer
NO_ROOM = (ObjectStoreFullError, OutOfDiskError)
_WHY = "The actor is dead because"
_MAX_LINE = 300


class ForeignError(Exception):
    """What an actor met that is none of the package's errors, in words: other classes may not be readable elsewhere."""


def readable(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Let a method of an actor raise nothing but the package's own errors and `ForeignError`."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except AgentGymError as error:  # or a subclass of somebody else's, which becomes the nearest class of ours
            raise exception(failure(error)) from None
        except Exception as error:
            raise ForeignError(f"{type(error).__name__}: {message_of(error)}") from None

    return wrapper


def check_sendable(value: Any) -> None:
    """Raise `EnvError` for what an environment returned if it does not survive the way to another process."""
    try:
        cloudpickle.loads(cloudpickle.dumps(value))
    except Exception as error:  # of whatever class
        problem = f"{type(error).__name__}: {message_of(error)}"
        raise EnvError(f"What the environment returned cannot be sent: {problem}") from error


def own_error(error: RayTaskError) -> AgentGymError:
    """Return the error that an actor raised: the package's own as it is, any other by its type and message."""
    if isinstance(error.cause, AgentGymError):
        return error.cause
    if isinstance(error, NO_ROOM):
        return no_room(error)
    return WorkersError(f"A Ray worker failed: {_in_words(error.cause)}")


def refusal(error: RayTaskError | RayActorError, kind: str) -> AgentGymError:
    """Return the error that says why an actor cannot be set up."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, AgentGymError):
        return cause
    return ConfigError(
        f"A Ray {kind} cannot be set up: {_in_words(cause)} Packages, environments and models must be there on every "
        "node."
    )


def _in_words(cause: BaseException) -> str:
    return first_line(cause) if isinstance(cause, ForeignError) else f"{type(cause).__name__}: {first_line(cause)}"


def no_room(error: Exception) -> WorkersError:
    """Return both the object store and the disk that it spills to are full."""
    return WorkersError(
        f"Ray's object store is full, and so is the disk that it spills to: {type(error).__name__}. Start Ray with a "
        "larger object_store_memory, or free that disk."
    )


def first_line(error: BaseException) -> str:
    """Return the first line of a message, as a sentence; of the death of an actor, the line that says why."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = next((each for each in lines if each.startswith(_WHY)), lines[0])
    return f"{line.removeprefix(_WHY).strip()[:_MAX_LINE].rstrip('.')}."
