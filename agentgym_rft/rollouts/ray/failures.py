"""Turns Ray's exceptions into the package's own."""

from __future__ import annotations

from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError, RayActorError, RayTaskError

from agentgym_rft.errors import AgentGymError, ConfigError, WorkersError

LOST = (RayActorError, ObjectLostError)  # no answer: the process died, or the node that held its answer
NO_ROOM = (ObjectStoreFullError, OutOfDiskError)
_WHY = "The actor is dead because"
_MAX_LINE = 300


def own_error(error: RayTaskError) -> AgentGymError:
    """Return the error that an actor raised: the package's own as it is, any other by its type and message."""
    if isinstance(error.cause, AgentGymError):
        return error.cause
    if isinstance(error, NO_ROOM):
        return no_room(error)
    return WorkersError(f"A Ray worker failed: {type(error.cause).__name__}: {first_line(error.cause)}")


def refusal(error: RayTaskError | RayActorError, kind: str) -> AgentGymError:
    """Return the error that says why an actor cannot be set up."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, AgentGymError):
        return cause
    return ConfigError(
        f"A Ray {kind} cannot be set up: {type(cause).__name__}: {first_line(cause)} Packages, environments and "
        "models must be there on every node."
    )


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
