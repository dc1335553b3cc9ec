"""The state of the process that the environments in it share."""

from __future__ import annotations

import concurrent.futures.thread
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What belongs to the whole process, and not to one environment in it."""

    directory: Path
    handlers: Mapping[signal.Signals, Any]
    threads: frozenset[threading.Thread]  # that the interpreter waits for when it ends


def process_state() -> ProcessState:
    """Return the state of this process now. Threads of executors are left out, since these end with the interpreter."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    of_executors = vars(concurrent.futures.thread).get("_threads_queues", {})
    threads = (thread for thread in threading.enumerate() if not thread.daemon and thread not in of_executors)
    return ProcessState(Path.cwd(), handlers, frozenset(threads))
