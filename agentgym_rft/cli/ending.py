"""The end of the command line's process, also where an environment left a thread that does not end."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from agentgym_rft.report.terminal import say

THREADS_S = 10.0  # for threads that still work; what the command had to write is written


def leave(code: int) -> NoReturn:
    """End this process with an exit code, without the threads that Python would wait for and that have no end."""
    joined = threading.Event()
    atexit.register(joined.set)  # called before all others, once Python has waited for its threads
    threading.Thread(target=_leave_late, args=(joined, code), daemon=True).start()
    sys.exit(code)


def _leave_late(joined: threading.Event, code: int) -> None:
    if joined.wait(THREADS_S):
        return
    own = (threading.main_thread(), threading.current_thread())
    names = ", ".join(thread.name for thread in threading.enumerate() if not thread.daemon and thread not in own)
    say(f"Ended without waiting longer for threads that the environment or a library left: {names}.", err=True)
    atexit._run_exitfuncs()  # Ray, processes of environments, logs: what would be done after the wait
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
