"""How the command line's process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading
from concurrent.futures import ThreadPoolExecutor
from agentgym_rft.cli import ending
{before}
ending.THREADS_S = {patience_s}
atexit.register(print, "cleaned up")
print("written")
ending.leave(3)
"""
EXECUTOR = "ThreadPoolExecutor(1).submit(int).result()"  # its thread waits for work until Python ends


def ended(before: str, patience_s: float) -> tuple[int, str, str]:
    program = PROGRAM.format(before=before, patience_s=patience_s)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_a_thread_without_an_end_does_not_keep_the_process():
    code, out, err = ended("threading.Thread(target=threading.Event().wait, name='uploader').start()", 0.2)
    assert (code, out) == (3, "written\ncleaned up\n")
    assert err == "Ended without waiting longer for threads that the environment or a library left: uploader.\n"


@pytest.mark.parametrize("before", ["", EXECUTOR, "threading.Timer(0.2, print, ['sent']).start()"])
def test_threads_that_end_are_waited_for(before):
    code, out, err = ended(before, 30.0)
    assert (code, err) == (3, "")
    assert out == ("written\nsent\n" if "sent" in before else "written\n") + "cleaned up\n"
