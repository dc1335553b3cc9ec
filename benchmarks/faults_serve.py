"""A server takes nothing from foreign pages, is held by nobody, and stores what it acknowledged."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fault_case import ROOT, Case, agentgym, python
from fault_runs import QUICK, SWITCH, small_policy

KIND = "serve"
LATEST_S = 60.0
TOKEN = "AGENTGYM_SERVE_TOKEN"
JSON = "application/json"
REWARD = b'{"conversation_id": "c", "reward": 1, "task_id": "1"}'
HEAD = b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@dataclass(frozen=True)
class Server:
    """A server in a process of its own, and requests to it."""

    pid: int
    address: str

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """Return the status and the body of an answer; `_` in the name of a header is `-`."""
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=LATEST_S)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def expect(self, status: int, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        """Check the status of an answer."""
        found, said = self.ask(method, path, body, **headers)
        assert found == status, f"{method} {path} with {headers} answered {found}, expected {status}: {said[:300]}"

    def converse(self) -> None:
        """Have the conversation `c`, of one turn, which then waits for its feedback."""
        asked = {"user": "c", "messages": [{"role": "user", "content": "Task 1, 2 turns left."}]}
        self.expect(200, "POST", "/v1/chat/completions", json.dumps(asked).encode(), Content_Type=JSON)

    def connect(self) -> socket.socket:
        """Return a connection on which nothing was sent."""
        host, _, port = self.address.partition(":")
        return socket.create_connection((host, int(port)), timeout=LATEST_S)


def options(*more: object) -> list[str]:
    """Return the arguments of a server that is quickly there."""
    limits = ("--max-context=64", "--device=cpu", "--group-size=2", "--port=0", "--store=s.db")
    return ["serve", "--policy", str(small_policy()), *limits, *map(str, more)]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the variables of a process that serves in this folder."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": f"{folder}/.state",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def awaited(condition: Callable[[], str | None], expected: str) -> str:
    """Return the first text that a condition gives."""
    end = time.monotonic() + LATEST_S
    while (found := condition()) is None:
        assert time.monotonic() < end, f"after {LATEST_S:.0f} s: {expected}"
        time.sleep(0.05)
    return found


def address_in(text: str) -> str | None:
    """Return the address that a server prints once it answers."""
    found = re.search(r"http://([\d.:]+)/v1", text)
    return None if found is None else found[1]


@contextlib.contextmanager
def served(folder: Path, *more: object, **variables: str) -> Iterator[Server]:
    """Serve in a fresh process until the block ends."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentgym_rft", *options(*more)],
            cwd=folder,
            env=environment(folder, **variables),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with process:
        try:
            address = awaited(lambda: address_in((folder / "log").read_text()), "the server does not answer")
            yield Server(process.pid, address)
        finally:
            process.kill()


def stored(folder: Path) -> str:
    """Return the sizes of the groups in the store, and `complete` if no more will come."""
    lines = (
        "import pathlib; from agentgym_rft.store.experience import ExperienceStore as S",
        "s = S(pathlib.Path('s.db'))",
        "print([len(group.trajectories) for group in s.groups(s.keys)], 'complete' if s.is_finished else 'open')",
    )
    ended = python("-c", "\n".join(lines), cwd=folder)
    ended.ended(0)
    return ended.out.strip()


def body_of_false_length(folder: Path) -> None:
    """Bodies in chunks are as long as they like, and may tell a length that is not theirs."""
    chunks = b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n%s\r\n" % (b" " * 100) * 20
    with served(folder, "--max-body=1000") as server:
        for told in (b"", b"Content-Length: 2\r\n"):
            with server.connect() as connection:
                connection.sendall(HEAD + told + chunks)
                answer = connection.recv(100)
            assert b" 413 " in answer, f"20 chunks of 100 bytes were answered {answer!r}"
        server.expect(200, "GET", "/v1/health")


def foreign_page(folder: Path) -> None:
    """A web page sends what a browser lets it send without asking, or has pointed its own name at this machine."""
    with served(folder) as server:
        server.converse()
        for kind in ("text/plain", "text/plain;application/json", "application/x-www-form-urlencoded"):
            server.expect(415, "POST", "/v1/feedback", REWARD, Content_Type=kind)
        for origin in ("https://evil.example", "null", "http://localhost:1"):
            server.expect(403, "POST", "/v1/feedback", REWARD, Content_Type=JSON, Origin=origin)
        server.expect(403, "POST", "/v1/feedback", REWARD, Content_Type=JSON, Host="evil.example")
        own = f"http://{server.address}"
        server.expect(200, "POST", "/v1/feedback", REWARD, Content_Type=JSON, Origin=own)


def strangers_hold_connections(folder: Path) -> None:
    """More connections than the server holds send nothing, half a request, or a body without an end."""
    beginnings = (b"", b"GET /v1/health HTTP/1.1\r\nX-Long: ", HEAD + b"Content-Length: 900\r\n\r\n ")
    with served(folder, "--max-conversations=1", "--request-timeout=3") as server, ExitStack() as held:
        strangers = [held.enter_context(server.connect()) for _ in range(150)]
        for number, stranger in enumerate(strangers):
            with contextlib.suppress(ConnectionError):  # it had to make room
                stranger.sendall(beginnings[number % 3])
        start = time.monotonic()
        server.expect(200, "GET", "/v1/health")
        waited = time.monotonic() - start
        assert waited < 3, f"a request among 150 strangers waited {waited:.1f} s"
        while strangers:
            assert time.monotonic() - start < 20, f"{len(strangers)} strangers are connected after 20 s"
            strangers = [stranger for stranger in strangers if not is_closed(stranger)]


def is_closed(connection: socket.socket) -> bool:
    """Send one byte more, and return True if nobody reads it."""
    connection.settimeout(0.01)
    try:
        connection.sendall(b"x")
        return connection.recv(1000) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def terminal_is_closed(folder: Path) -> None:
    """The terminal of a server is closed when a group of two has one member."""
    given = [sys.executable, "-m", "agentgym_rft", *options()]
    variables = environment(folder)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(sys.executable, given, variables)
    try:
        said = ""
        while (address := address_in(said)) is None:
            said += os.read(terminal, 1000).decode()
        server = Server(pid, address)
        server.converse()
        server.expect(200, "POST", "/v1/feedback", REWARD, Content_Type=JSON)
        os.close(terminal)
        awaited(lambda: "ended" if os.waitpid(pid, os.WNOHANG)[0] else None, "the server runs without its terminal")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    found = stored(folder)
    assert found == "[1] complete", f"of one conversation with feedback the store has {found}"


def second_server(folder: Path) -> None:
    """A second server, and an exploration, are given the store of the first."""
    with served(folder) as server:
        server.converse()
        agentgym(*options(), cwd=folder, timeout_s=LATEST_S).refused("Another program is filling", "s.db")
        explored = ("explore", "--env", SWITCH, "--policy", small_policy(), "--store.path=s.db", *QUICK)
        agentgym(*explored, cwd=folder).refused("Another program is filling the experience store")
        (folder / "link.db").symlink_to("s.db")
        agentgym(*options("--store=link.db"), cwd=folder, timeout_s=LATEST_S).refused("Another program is filling")
        assert stored(folder).endswith("open"), "the second server has ended the first one's store"
        server.expect(200, "POST", "/v1/feedback", REWARD, Content_Type=JSON)


def token_in_white_space(folder: Path) -> None:
    """A token comes with the end of its line, or is empty."""
    with served(folder, **{TOKEN: " s3cret\n"}) as server:
        server.expect(200, "GET", "/v1/health", Authorization="Bearer s3cret")
        server.expect(401, "GET", "/v1/health", Authorization="Bearer s3cre")
        server.expect(401, "GET", "/v1/health")
    for empty in ("", " \n"):
        agentgym(*options(), cwd=folder, env={TOKEN: empty}).refused("The token is empty")
        agentgym(*options("--token", empty), cwd=folder).refused("The token is empty")


CASES = (
    Case(KIND, "bodies in chunks, with a false length or none", body_of_false_length),
    Case(KIND, "a foreign web page sends feedback", foreign_page),
    Case(KIND, "150 strangers hold connections, where 64 are held", strangers_hold_connections),
    Case(KIND, "the terminal is closed before a group is complete", terminal_is_closed),
    Case(KIND, "a second server on one store", second_server),
    Case(KIND, "a token with white space around it, and an empty one", token_in_white_space),
)
