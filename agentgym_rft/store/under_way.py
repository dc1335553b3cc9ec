"""A run is refused before it has begun; from then on it fails, and says how to go on with what was saved."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentgym_rft.errors import (
    AgentGymError,
    CheckpointError,
    ConfigError,
    DataError,
    RegistryError,
    RunError,
    StorageError,
)

REFUSED = (ConfigError, RegistryError, DataError, CheckpointError)
_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),  # no room, or none for this user
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP),
)


@contextmanager
def under_way(place: object, advice: str, has_begun: Callable[[], bool]) -> Iterator[None]:
    """Turn what goes wrong meanwhile into the failure of a run that writes to `place`.

    Args:
        advice: a sentence on how to go on once that can be written again.
        has_begun: True once there is something that the run has done.
    Raises:
        StorageError: the operating system refuses to write.
        RunError: in place of an error that means "refused, nothing was begun", where something was.
    """
    try:
        yield
    except REFUSED as error:
        if has_begun():
            raise RunError(str(error)) from error
        raise
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise StorageError(f"Cannot write to '{place}': {error.strerror}. {advice}") from error


def is_disk_error(error: OSError) -> bool:
    """Return True for what an operating system says of a disk that is full, broken or may not be written."""
    return not isinstance(error, AgentGymError) and error.errno in _DISK
