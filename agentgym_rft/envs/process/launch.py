"""Starts the process of environments, and ends it: with its owner, however that ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

from agentgym_rft.envs.process.channel import Channel

# A fresh interpreter, not a fork (engines do not survive one) and not multiprocessing's "spawn", which would run the
# caller's main module again, with all that it imports.
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from agentgym_rft.envs.process.child import main; main(int(sys.argv[2]))"
)
# Waits for the end of its input, which comes when the owner is gone, and kills a process group. No thread of the
# environment's process could do that: an environment may hold the interpreter's lock. Nor may the kernel's signal at
# the death of a parent, which means the thread that started the process, and leaves what that has started.
_WATCH = 'read _; kill -KILL "-$1"'


@dataclass(frozen=True, slots=True)
class Launched:
    """The process of environments, the one that watches it for its owner, and the owner's id."""

    process: subprocess.Popen[bytes]
    watcher: subprocess.Popen[bytes]
    owner: int

    def end(self) -> None:
        """Kill what is left of the process and of what it started, and wait for it."""
        if os.getpid() != self.owner:
            return  # a fork of the owner must not end the owner's processes
        with self.watcher:  # waits for it and closes its input
            self.watcher.kill()  # first: once the process is waited for, its number may be that of another
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in its group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def launch(hash_seed: int | None) -> tuple[Launched, Channel]:
    """Start a process of environments; `hash_seed` is its PYTHONHASHSEED, None: random."""
    environment = None if hash_seed is None else {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = theirs.fileno()
        arguments = [sys.executable, "-P", "-c", _MAIN, json.dumps([str(entry) for entry in sys.path]), str(descriptor)]
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,  # what an environment prints goes to the standard error: our output may be JSON
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C is for the owner, and whatever an engine starts can be ended with it
        )
    ours.setblocking(False)
    return Launched(process, _watched(process.pid), os.getpid()), Channel(ours)


def _watched(group: int) -> subprocess.Popen[bytes]:
    """Start what kills a process group when this process is gone. It takes 1 ms and 0.1 MB of memory."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "sh", str(group)],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
