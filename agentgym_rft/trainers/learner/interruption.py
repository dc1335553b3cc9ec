"""Ctrl-C in a training loop: the step under way is finished and saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(note: Callable[[str], None]) -> Iterator[threading.Event]:
    """Return an event that the first Ctrl-C sets; a second one interrupts at once.
    Only the main thread gets signals.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        note("Interrupted: this step is finished and saved first. Press Ctrl-C again to stop at once.")

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
