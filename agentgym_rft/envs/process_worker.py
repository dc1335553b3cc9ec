"""The owner's side of a process that hosts one environment: it starts it, asks it, and ends it."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, cast

from agentgym_rft import errors
from agentgym_rft.envs.process_child import Facts, Failure, Reply, Request
from agentgym_rft.errors import ConfigError, EnvError, EnvTimeoutError

START_TIMEOUT_S = 120.0  # to start Python and import this package, on a machine that may be very busy
_CLOSE_TIMEOUT_S = 5.0
_EXIT_TIMEOUT_S = 2.0  # from the answer to "close" to the end of the process
_LOOK_S = 0.5  # how often a wait looks whether the process is still there
# A fresh interpreter, not a fork (engines do not survive one) and not multiprocessing's "spawn", which would run the
# caller's main module again, with all that it imports.
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from agentgym_rft.envs.process_child import main; main(int(sys.argv[2]))"
)


class Worker:
    """A process with one environment.

    One call at a time; only `stop` may come from another thread while a call is under way.

    Args:
        id, options: what `make_env` takes, to be made in the process.
        rng_state: the state that the environment's generator begins with; None leaves it unseeded.
        timeout_s: deadline of every call, making the environment included; None: no deadline.
        hash_seed: PYTHONHASHSEED of the process; None: another order of sets in every process, as Python does it.
    Raises:
        ConfigError: the options cannot be sent to a process.
        EnvError: whatever making the environment raises.
    """

    def __init__(
        self,
        id: str,
        options: Mapping[str, Any],
        rng_state: Mapping[str, Any] | None,
        timeout_s: float | None,
        hash_seed: int | None,
    ) -> None:
        self.id = id
        self.rng_state = rng_state
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process, self._connection = _start(hash_seed)
        self._finalizer = weakref.finalize(self, _end, self._process, os.getpid())
        try:
            self._read("starting", START_TIMEOUT_S)
            self.facts = cast(Facts, self.call(Request("make", (id, dict(options), rng_state))))
        except BaseException:
            self._finalizer()
            raise

    @property
    def is_alive(self) -> bool:
        """False once the process was ended, by us or by itself."""
        return self._finalizer.alive

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, request: Request) -> Any:
        """What a request gives.

        Raises the error that it raises, `EnvTimeoutError` after the deadline, and `EnvError` if the process ended.
        """
        with self._lock:
            if not self.is_alive:
                raise EnvError(f"The process of environment '{self.id}' has ended; call reset, which starts another.")
            message = _pickled(request)
            try:
                self._connection.send_bytes(message)
                reply = self._read(request.name, self._timeout_s)
            except (EOFError, ConnectionError) as error:
                raise self._lost(request.name) from error
        if isinstance(reply, Failure):
            raise exception(reply)
        self.rng_state = reply.rng_state or self.rng_state
        return reply.value

    def stop(self) -> None:
        """Close the environment and end the process; a call under way in another thread is cut off.

        Raises what closing the environment raises, after the process has ended.
        """
        if not self.is_alive:
            return
        if not self._lock.acquire(blocking=False):
            self._finalizer()
            return
        reply: Reply | Failure = Reply(None)
        try:
            self._connection.send_bytes(_pickled(Request("close")))
            reply = self._read("close", min(self._timeout_s or _CLOSE_TIMEOUT_S, _CLOSE_TIMEOUT_S))
            self._process.wait(_EXIT_TIMEOUT_S)  # what it registered with `atexit` may run
        except (EOFError, ConnectionError, EnvTimeoutError, subprocess.TimeoutExpired):
            pass  # it is gone already or does not end by itself; the next line sees to it
        finally:
            self._finalizer()
            self._lock.release()
        if isinstance(reply, Failure):
            raise exception(reply)

    def _read(self, name: str, timeout_s: float | None) -> Reply | Failure:
        """The next reply. Raises `EOFError` or `ConnectionError` if the process has ended."""
        try:
            if not self._wait(timeout_s):
                raise EnvTimeoutError(
                    f"'{name}' of environment '{self.id}' took longer than {timeout_s:g} s; its process was ended. "
                    "The next reset starts another."
                )
            message = self._connection.recv_bytes()
        except BaseException:  # a Ctrl-C, too: a reply that comes too late would answer the next request
            self._finalizer()
            raise
        try:
            return cast(Reply | Failure, pickle.loads(message))
        except (AttributeError, ImportError, pickle.UnpicklingError) as error:
            raise EnvError(f"What '{name}' of environment '{self.id}' returned cannot be read: {error}.") from error

    def _wait(self, timeout_s: float | None) -> bool:
        """True when there is something to read, False after the deadline.

        Looks at the process, too: one that forked leaves the other end of the socket open when it dies.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._connection.poll(max(0.0, min(deadline - time.monotonic(), _LOOK_S))):
            if self._process.poll() is not None and not self._connection.poll(0.0):
                raise EOFError
            if time.monotonic() >= deadline:
                return False
        return True

    def _lost(self, name: str) -> EnvError:
        self._finalizer()
        return EnvError(
            f"The process of environment '{self.id}' {_ending(self._process.wait())} during '{name}'. "
            "The next reset starts another."
        )


def exception(failure: Failure) -> Exception:
    """The exception that a failure describes; where it was raised is a note of it."""
    error = cast(Exception, vars(errors)[failure.kind](failure.message))
    if failure.where:
        error.add_note(f"In the environment's process:\n{failure.where}")
    return error


def _start(hash_seed: int | None) -> tuple[subprocess.Popen[bytes], Connection]:
    environment = None if hash_seed is None else {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    ours, theirs = multiprocessing.Pipe()
    with theirs:
        descriptor = theirs.fileno()
        arguments = [sys.executable, "-c", _MAIN, json.dumps([str(entry) for entry in sys.path]), str(descriptor)]
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,  # what an environment prints goes to the standard error: our output may be JSON
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C is for the owner, and whatever an engine starts can be ended with it
        )
    return process, ours


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill what is left of a process and of what it started, and wait for it."""
    if os.getpid() != owner:
        return  # a fork of the owner must not end the owner's processes
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in its group
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _pickled(request: Request) -> bytes:
    try:
        return pickle.dumps(request)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(f"The arguments of '{request.name}' cannot be sent to a process: {error}.") from error


def _ending(returncode: int) -> str:
    names = {number.value: number.name for number in signal.Signals}
    if returncode < 0:
        return f"was killed by {names.get(-returncode, f'signal {-returncode}')}"
    return f"ended with exit code {returncode}"
