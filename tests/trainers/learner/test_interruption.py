from __future__ import annotations

import signal

from agentgym_rft.trainers.learner.interruption import interruptible


def test_further_signals_are_heard_unless_the_process_was_started_to_ignore_them():
    notes: list[str] = []
    before = signal.getsignal(signal.SIGHUP)
    with interruptible(notes.append, more=(signal.SIGHUP,)) as interrupted:
        signal.raise_signal(signal.SIGHUP)
        assert interrupted.is_set()
        signal.raise_signal(signal.SIGHUP)
    assert (len(notes), signal.getsignal(signal.SIGHUP)) == (1, before)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(notes.append, more=(signal.SIGHUP,)) as interrupted:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupted.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
