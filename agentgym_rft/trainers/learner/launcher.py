"""What a launcher of several processes, such as torchrun, says in the environment. This imports no torch."""

from __future__ import annotations

import os

# torch's `env://` needs all of them. One alone comes from something else, such as a cluster's job or a shell.
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def is_launched() -> bool:
    """Return True if a launcher started this process, perhaps with others."""
    return all(name in os.environ for name in _VARIABLES)


def is_leading() -> bool:
    """Return True in the first of the processes of a launcher, and without one."""
    return not is_launched() or os.environ["RANK"] == "0"
