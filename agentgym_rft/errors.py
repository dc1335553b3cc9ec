"""One exception for each boundary. Each also derives from the built-in exception that a caller would expect."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AgentGymError(Exception):
    """Base of every error that the package raises on purpose."""


class ConfigError(AgentGymError, ValueError):
    """A recipe, option or combination of them is wrong. The command line exits with 2."""


class RegistryError(AgentGymError, LookupError):
    """A name is not registered (or registered twice). The command line exits with 2."""


class DataError(AgentGymError, ValueError):
    """A file or folder given by the user is missing, damaged or of an unknown kind. The command line exits with 2."""


class NoTasksError(DataError):
    """The data have no task of a split. An evaluation that only compares itself with that split goes on without."""


class EnvError(AgentGymError, RuntimeError):
    """An environment was used against its contract, or broke it."""


class EnvTimeoutError(EnvError, TimeoutError):
    """An environment in a process of its own did not answer in time. The episode ends as `timeout`."""


class UnsupportedGameError(DataError):
    """A game file whose domain or grammar the own engine does not know."""


class ReplayDiverged(EnvError):
    """Replaying an action log gave another observation than the recorded one."""


class PolicyError(AgentGymError, RuntimeError):
    """A policy could not be loaded or could not sample."""


class TokenMismatchError(AgentGymError, RuntimeError):
    """Trained tokens are not the sampled ones, or their log-probs do not agree."""


class NumericsError(AgentGymError, ArithmeticError):
    """A loss, a gradient or a weight is not a finite number. The last checkpoint is as it was."""


class CheckpointError(AgentGymError, ValueError):
    """A checkpoint is missing, damaged or of another model."""


class StorageError(AgentGymError, OSError):
    """The disk refused what a run had to write."""


class RunError(AgentGymError, RuntimeError):
    """A run that was under way met what would have been refused before it. The command line exits with 1."""


class ParallelError(AgentGymError, RuntimeError):
    """Another process of a training run ended, failed or does not answer."""


class WorkersError(AgentGymError, RuntimeError):
    """The processes that play episodes were lost too often, or refuse their weights or settings."""


class EnvContractError(EnvError):
    """`check_env` found a broken rule."""


def message_of(error: BaseException) -> str:
    """Return the message of an exception, also of one from outside that cannot be turned into text."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # `sys.exit` is no message, either
        return "its message cannot be shown"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence part: the closest known name, else the list of all. Starts with a space."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.6)
    if close:
        return f" Did you mean '{next(n for n in names if n.lower() == close[0])}'?"
    return f" Known: {', '.join(names)}." if names else ""
