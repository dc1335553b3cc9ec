"""The owner's side of a process that hosts environments: starts it, sends it requests, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import select
import signal
import subprocess
import threading
import time
import weakref
from collections import deque
from typing import cast

from agentgym_rft import errors
from agentgym_rft.envs.process.channel import Channel
from agentgym_rft.envs.process.child import Failure, Reply, Request
from agentgym_rft.envs.process.launch import launch
from agentgym_rft.errors import ConfigError, EnvError, EnvTimeoutError

START_TIMEOUT_S = 120.0  # to start Python and import this package, on a machine that may be very busy
_STARTING = "starting"
CLOSE_TIMEOUT_S = 5.0
_EXIT_TIMEOUT_S = 2.0  # from the answer to "close" to the end of the process
_LOOK_S = 0.5  # how often a waiting caller checks the deadline and the process
_CLOSED = "The environment was closed."
_NEXT = "The next reset starts another."
_log = logging.getLogger(__name__)


class Call:
    """A request that was sent: its deadline, the future that waits for it, and its answer."""

    __slots__ = ("answer", "began", "future", "name", "thread", "timeout_s")

    def __init__(self, name: str, timeout_s: float | None, future: asyncio.Future[None] | None = None) -> None:
        self.name, self.timeout_s, self.future = name, timeout_s, future
        self.thread = threading.get_ident()
        self.began = time.monotonic()  # set again when the calls before it are answered
        self.answer: bytes | Exception | None = None

    @property
    def left_s(self) -> float:
        """Seconds to its deadline, or to the next look at the process, if that comes first."""
        return _LOOK_S if self.timeout_s is None else min(_LOOK_S, self.began + self.timeout_s - time.monotonic())

    def end(self, answer: bytes | Exception) -> None:
        """Take the answer and wake who waits for it."""
        self.answer = answer
        future = self.future
        if future is None or future.get_loop().is_closed():
            return
        if self.thread == threading.get_ident():
            _wake(future)
        else:
            future.get_loop().call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():  # the waiting task may have been cancelled
        future.set_result(None)


class Worker:
    """A process that hosts environments and answers one call after the other.

    Calls are answered in the order in which they were asked. The deadline is that of the call that runs; if it comes
    too late, the process is killed, and calls behind it fail, too. A call is awaited on an event loop (one at a time)
    or, with `is_blocking`, waited for, in any thread.

    Args:
        id: the environment, for messages.
        timeout_s: deadline of every call; None: no deadline.
        hash_seed: PYTHONHASHSEED of the process; None: another order of sets in every process, as Python does it.
    """

    def __init__(self, id: str, timeout_s: float | None, hash_seed: int | None) -> None:
        self.id = id
        self.ending = ""  # why it ended
        self.num_envs = self.num_made = self.num_resets = 0  # counted by its users
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        launched, self._channel = launch(hash_seed)
        self._process = launched.process
        self._finalizer = weakref.finalize(self, launched.end)
        self._hang_up = weakref.finalize(self, self._channel.close)
        self._calls = deque([Call(_STARTING, START_TIMEOUT_S)])  # calls without an answer; the first one runs
        self._loop: asyncio.AbstractEventLoop | None = None  # the event loop that reads replies
        self._timer: asyncio.TimerHandle | None = None
        self._is_finished = False  # nobody waits for it any more
        self._is_writing = False  # the socket was full, so the loop waits until it can be written
        self._poller = select.poll()

    @property
    def is_alive(self) -> bool:
        """False once the process was ended, by us or by itself."""
        return self._finalizer.alive

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, request: Request, *, is_blocking: bool, timeout_s: float | None = None) -> Reply:
        """Send a request and return its result; `timeout_s` can shorten the deadline.

        Raises the environment's error, `EnvTimeoutError` after the deadline, and `EnvError` if the process ended.
        """
        reply = await self._answer(request, is_blocking, timeout_s)
        if isinstance(reply, Failure):
            raise exception(reply)
        return reply

    async def stop(self, *, is_blocking: bool) -> None:
        """Close the environments and end the process; calls under way are cut off.

        Raises what closing the environments raises, after the process has ended.
        """
        if not self.is_alive:
            return
        if not self._lock.acquire(blocking=False):
            self._finalizer()  # a caller that waits in another thread will notice
            return
        try:
            if self._calls:
                self._finish(EnvError(_CLOSED), _CLOSED)
                return
        finally:
            self._lock.release()
        reply: Reply | Failure = Reply(None)
        try:
            reply = await self._answer(Request(0, "close"), is_blocking, CLOSE_TIMEOUT_S)
            await self._exit(is_blocking)  # functions registered with `atexit` may run first
        except EnvTimeoutError as late:
            _log.warning("%s", late)
        except EnvError:
            pass  # it has ended already
        finally:
            with self._lock:
                self._finish(EnvError(_CLOSED), _CLOSED)
        if isinstance(reply, Failure):
            raise exception(reply)

    def kill(self) -> None:
        """End the process as it is."""
        with self._lock:
            self._finish(EnvError(_CLOSED), _CLOSED)

    def post(self, request: Request) -> None:
        """Send a request without waiting for the reply. The process may have ended."""
        with self._lock:
            if self.is_alive:
                self._send(Call(request.name, self._timeout_s), _pickled(request))
                self._advance()

    async def _exit(self, is_blocking: bool) -> None:
        """Wait for the end of the process, up to a limit."""
        if is_blocking:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_TIMEOUT_S)
            return
        deadline = time.monotonic() + _EXIT_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def _answer(self, request: Request, is_blocking: bool, timeout_s: float | None) -> Reply | Failure:
        """Return the reply to a request. Raises only what goes wrong with the process, and `ConfigError`."""
        message = _pickled(request)
        limits = [limit for limit in (timeout_s, self._timeout_s) if limit is not None]
        future = None if is_blocking else asyncio.get_running_loop().create_future()
        call = Call(request.name, min(limits, default=None), future)
        with self._lock:
            self._send(call, message)
            if is_blocking:
                self._wait(call)
            else:
                self._watch(asyncio.get_running_loop())
        if future is not None:
            await future
        if isinstance(call.answer, Exception):
            raise call.answer
        assert call.answer is not None
        try:
            return cast(Reply | Failure, pickle.loads(call.answer))
        except (AttributeError, ImportError, pickle.UnpicklingError) as error:
            raise EnvError(
                f"What '{call.name}' of environment '{self.id}' returned cannot be read: {error}."
            ) from error

    # The methods below are called with the lock held.

    def _send(self, call: Call, message: bytes) -> None:
        if not self.is_alive:
            raise EnvError(f"{self.ending or f'The process of environment {self.id!r} has ended.'} {_NEXT}")
        self._calls.append(call)
        self._channel.put(message)

    def _wait(self, call: Call) -> None:
        """Block until a call has its answer."""
        try:
            self._advance()
            while call.answer is None:
                wanted = select.POLLIN if self._channel.is_sent else select.POLLIN | select.POLLOUT
                self._poller.register(self._channel.fileno(), wanted)
                self._poller.poll(max(0.0, self._calls[0].left_s) * 1000)
                self._advance()
                if call.answer is None:
                    self._look()
        except BaseException as problem:  # Ctrl-C: the late answer must not be taken for that of the next call
            self._finish(EnvError(f"Interrupted: {problem!r}"), "The process was ended by an interrupt.")
            raise

    def _advance(self) -> None:
        """Send what is left and take what has come."""
        try:
            if not self._channel.is_sent:
                self._channel.flush()
            messages = self._channel.take()
        except (EOFError, ConnectionError):
            self._lose()
            return
        for message in messages:
            if self._calls:  # otherwise the process was ended between two of its answers
                self._calls.popleft().end(message)
        if messages and self._calls:
            self._calls[0].began = time.monotonic()

    def _look(self) -> None:
        """End what runs too long, and what lost its process: one that forked leaves the socket open when it dies."""
        call = self._calls[0]
        if call.timeout_s is not None and time.monotonic() - call.began >= call.timeout_s:
            late = f"'{call.name}' of environment '{self.id}' took longer than {call.timeout_s:g} s; "
            others = late if call.name == _STARTING else f"Another episode in the process was late: {late}"
            self._finish(EnvTimeoutError(f"{late}its process was ended. {_NEXT}"), f"{others}its process was ended.")
        elif self._process.poll() is not None:
            self._advance()
            if self._calls:
                self._lose()

    def _lose(self) -> None:
        """The process has ended by itself."""
        self._finalizer()
        what = f"The process of environment '{self.id}' {_ending(self._process.wait())}"
        name = self._calls[0].name if self._calls else "a pause"
        whose = "" if name == _STARTING else " of another episode"
        self._finish(EnvError(f"{what} during '{name}'. {_NEXT}"), f"{what} during '{name}'{whose}.")

    def _finish(self, problem: Exception, others: str) -> None:
        """End the process, with `problem` for the call that runs and a sentence for all others.

        Only once: the socket must not be closed a second time before the loop has let go of it, since the next process
        may get its number.
        """
        self._finalizer()
        if self._is_finished:
            return
        self._is_finished = True
        loop = self._unwatch()
        if loop is None:
            self._hang_up()
        else:
            loop.call_soon_threadsafe(self._hang_up)  # once it does not watch the channel any more
        self.ending = self.ending or others
        calls, self._calls = self._calls, deque()
        for number, call in enumerate(calls):
            call.end(EnvError(f"{others} {_NEXT}") if number else problem)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for replies on an event loop, which may be another one than the last time."""
        if self._loop is not loop:
            self._unwatch()
            self._loop = loop
            loop.add_reader(self._channel.fileno(), self._on_event)
        if self._channel.num_unsent == 1:
            loop.call_soon(self._on_messages)  # sends this message together with those that other episodes add
        if self._timer is None:
            self._timer = loop.call_later(max(0.0, self._calls[0].left_s), self._on_timer)

    def _on_messages(self) -> None:
        """Send what the episodes of this turn of the loop have asked."""
        with self._lock:
            if not self.is_alive:
                return
            try:
                self._channel.flush()
            except ConnectionError:
                self._lose()
                return
            if self._loop is not None and self._is_writing == self._channel.is_sent:
                self._is_writing = not self._is_writing
                if self._is_writing:
                    self._loop.add_writer(self._channel.fileno(), self._on_messages)
                else:
                    self._loop.remove_writer(self._channel.fileno())

    def _on_event(self) -> None:
        with self._lock:
            self._advance()

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
            if self._calls:
                self._look()
            if self._calls and self._loop is not None:
                self._watch(self._loop)

    def _unwatch(self) -> asyncio.AbstractEventLoop | None:
        """Let go of the event loop, and return it if it has yet to forget the channel."""
        loop, self._loop = self._loop, None
        timer, self._timer = self._timer, None
        self._is_writing = False
        if loop is None or loop.is_closed():
            return None
        loop.call_soon_threadsafe(_forget, loop, self._channel, timer)
        return loop


def _forget(loop: asyncio.AbstractEventLoop, channel: Channel, timer: asyncio.TimerHandle | None) -> None:
    loop.remove_reader(channel.fileno())
    loop.remove_writer(channel.fileno())
    if timer is not None:
        timer.cancel()


def exception(failure: Failure) -> Exception:
    """Return the exception that a failure describes; where it was raised is a note of it."""
    error = cast(Exception, vars(errors)[failure.kind](failure.message))
    if failure.where:
        error.add_note(f"In the environment's process:\n{failure.where}")
    return error


def _pickled(request: Request) -> bytes:
    try:
        return pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(f"The arguments of '{request.name}' cannot be sent to a process: {error}.") from error


def _ending(returncode: int) -> str:
    names = {number.value: number.name for number in signal.Signals}
    if returncode < 0:
        return f"was killed by {names.get(-returncode, f'signal {-returncode}')}"
    return f"ended with exit code {returncode}"
