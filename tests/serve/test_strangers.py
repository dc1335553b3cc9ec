"""Requests of strangers: foreign web pages, bodies of false length, clients that send or read slowly."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from contextlib import ExitStack

import pytest

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.serve.connections import most_connections
from agentgym_rft.serve.gateway import Gateway
from agentgym_rft.serve.settings import ServeSettings
from agentgym_rft.trainers.sft.model import train_tokenizer
from tests.serve.gateways import LIMITS, Client, Kept, answering
from tests.serve.test_ends import LOOK, HeldPolicy

TOKENIZER = train_tokenizer(["look at the desk"] * 3, 300)
HEAD = b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
DEADLINE_S = 60.0


def gateway_of(**limits: object) -> Gateway:
    settings = ServeSettings(**(LIMITS | limits))
    return Gateway(ScriptedPolicy(lambda _: [TOKENIZER.eos_token_id]), TOKENIZER, Kept(), settings, name="g")


@pytest.fixture(scope="module")
def client():
    gateway = gateway_of(max_body=1000)
    with answering(gateway):
        yield Client(gateway.url)


def connected(client: Client) -> socket.socket:
    host, _, port = client.address.partition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def answer_to(client: Client, request: bytes) -> bytes:
    with connected(client) as connection:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"}}"):
            answer += connection.recv(4000)
        return answer


def chunks(*contents: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(content), content) for content in contents)


@pytest.mark.parametrize("length", [b"", b"Content-Length: 2\r\n"], ids=["without a length", "with a false length"])
def test_the_bytes_of_a_body_are_counted_whatever_length_it_tells(client, length):
    small = HEAD + length + CHUNKED + b"\r\n" + chunks(b'{"conversation_id": "c", ', b'"reward": 1}', b"")
    assert b"There is no conversation 'c'." in answer_to(client, small)
    answer = answer_to(client, HEAD + length + CHUNKED + b"\r\n" + chunks(*[b" " * 100] * 11))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"The body has more than 1000 bytes, the most that are taken." in answer


@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", "text/plain;application/json", "application/x-www-form-urlencoded", "multipart/x"]
)
def test_a_body_that_is_not_sent_as_json_is_refused(client, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    reply = client.send("POST", "/v1/feedback", b'{"conversation_id": "c", "reward": 1}', headers)
    assert (reply.status, "send it as application/json" in reply.error) == (415, True)


def test_json_may_name_its_character_set(client):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.send("POST", "/v1/feedback", b'{"conversation_id": "c", "reward": 1}', headers).status == 404


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost:1", "http://127.0.0.1"])
def test_pages_of_other_origins_are_refused(client, origin):
    reply = client.feedback("c", 1.0)
    assert reply.status == 404
    reply = client.post("/v1/feedback", {"conversation_id": "c", "reward": 1}, Origin=origin)
    assert (reply.status, f"this request is of '{origin}'" in reply.error) == (403, True)


def test_the_servers_own_origin_is_answered(client):
    assert client.get("/v1/health", Origin=f"http://{client.address}").status == 200
    assert client.get("/v1/health", Host="LOCALHOST:1", Origin="https://localhost:1").status == 200


@pytest.mark.parametrize("host", ["[::1", "", "localhost.evil.example", "127.0.0.1.evil.example"])
def test_names_that_are_not_this_machines_are_refused(client, host):
    assert client.get("/v1/health", Host=host).status == 403


def test_a_token_is_taken_without_the_white_space_around_it():
    with answering(gateway := gateway_of(token=" s3cret\n")):
        assert Client(gateway.url, "s3cret").get("/v1/health").status == 200


def is_closed(connection: socket.socket, trickle: bytes) -> bool:
    """Send a little and read what comes, until the server closes the connection or it has taken far too long."""
    connection.settimeout(0.05)
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            connection.sendall(trickle)
            if not connection.recv(4000):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize(
    ("sent", "trickle"),
    [
        (b"", b""),
        (b"GET /v1/health HTTP/1.1\r\nX-Long: ", b"x"),
        (HEAD + b"Content-Length: 900\r\n\r\n", b" "),
        (HEAD + CHUNKED + b"\r\n" + chunks(b" " * 1001), chunks(b" ")),
        (b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    ],
    ids=["nothing", "endless headers", "a slow body", "more after a refusal", "nothing more after an answer"],
)
def test_a_client_that_takes_too_long_to_send_a_request_is_let_go(sent, trickle):
    with answering(gateway := gateway_of(max_body=1000, request_s=1)):
        client = Client(gateway.url)
        with connected(client) as connection:
            connection.sendall(sent)
            assert is_closed(connection, trickle)
        assert client.get("/v1/health").status == 200


def completion(num_ids: int) -> bytes:
    body = b'{"prompt": [%s1], "max_tokens": 8, "return_token_ids": true}' % (b"100, " * (num_ids - 1))
    return HEAD.replace(b"feedback", b"completions") + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_a_client_that_does_not_take_its_answers_is_let_go():
    gateway = gateway_of(max_context=1_000_000, request_s=1)
    with answering(gateway), connected(Client(gateway.url)) as connection, pytest.raises(ConnectionError):
        connection.sendall(completion(100_000) * 50)


class SlowPolicy(HeldPolicy):
    """Takes longer than clients may for a prompt of one id; `asked` is set then."""

    async def sample(self, request: SampleRequest) -> Completion:
        if len(request.prompt_ids) > 1:
            return await ScriptedPolicy(lambda _: LOOK).sample(request)
        asyncio.get_running_loop().call_later(2.5, self.go.set)
        return await super().sample(request)


def test_an_answer_may_take_longer_than_its_request_also_to_a_client_that_was_slow_to_take_the_one_before():
    policy = SlowPolicy()
    settings = ServeSettings(**(LIMITS | {"max_context": 2_000_000, "max_body": 10_000_000, "request_s": 2}))
    gateway = Gateway(policy, TOKENIZER, Kept(), settings)
    with answering(gateway), connected(Client(gateway.url)) as connection:
        connection.sendall(completion(1_500_000) + completion(1))  # more than the buffers of sockets hold
        assert policy.asked.wait(DEADLINE_S)
        answers = b""
        while not answers.endswith(b'"prompt_token_ids":[1]}'):
            received = connection.recv(1_000_000)
            assert received, answers[-1000:]
            answers += received


def test_strangers_that_hold_many_connections_make_room_for_new_ones():
    with answering(gateway := gateway_of(max_conversations=1, request_s=3600)), ExitStack() as held:
        client = Client(gateway.url)
        strangers = [held.enter_context(connected(client)) for _ in range(most_connections(1) + 10)]
        assert client.get("/v1/health").status == 200
        assert is_closed(strangers[0], b"")
        strangers[-1].sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert strangers[-1].recv(4000).startswith(b"HTTP/1.1 200 ")


def test_more_connections_are_never_held_than_files_may_be_open():
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most_connections(20) == 80
    assert most_connections(10**9) == (4 * 10**9 if files == resource.RLIM_INFINITY else files - 128)
