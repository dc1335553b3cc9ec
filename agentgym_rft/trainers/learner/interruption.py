"""Ctrl-C and SIGTERM in a loop: what is under way is finished and saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch.distributed as dist


@contextmanager
def interruptible(
    note: Callable[[str], None],
    first: str = "this step is finished and saved first",
    more: Sequence[signal.Signals] = (),
) -> Iterator[threading.Event]:
    """Return an event that the first Ctrl-C or SIGTERM sets, with a note; a Ctrl-C after it interrupts at once.

    `more` signals do the same, except those that the process was started to ignore. Only the main thread gets signals.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not event.is_set():
            event.set()
            note(f"Interrupted: {first}. Press Ctrl-C again to stop at once.")

    # torchrun ends the other processes of a run that failed with SIGTERM: these would wait for the one that is lost.
    numbers = (signal.SIGINT,) if dist.is_initialized() else (signal.SIGINT, signal.SIGTERM)
    heard = [number for number in more if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, on_signal) for number in (*numbers, *heard)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
