"""Requests that overlap, clients that leave, and the end of the server, with a policy that answers when it is told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.serve.gateway import Gateway
from agentgym_rft.serve.settings import ServeSettings
from agentgym_rft.store.experience import ExperienceStore
from agentgym_rft.trainers.sft.model import train_tokenizer
from tests.serve.gateways import LIMITS, Client, Kept, answering

TOKENIZER = train_tokenizer(["look at the desk"] * 3, 300)
LOOK = [*TOKENIZER.encode("look", add_special_tokens=False), TOKENIZER.eos_token_id]
GO = [{"role": "user", "content": "go"}]
ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0


class HeldPolicy:
    """Says `look` once `go` is set; `asked` is set as soon as somebody asks."""

    version = 0

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self._script = ScriptedPolicy(lambda prompt: LOOK)

    async def sample(self, request: SampleRequest) -> Completion:
        self.asked.set()
        while not self.go.is_set():
            await asyncio.sleep(0.005)
        return await self._script.sample(request)

    def release(self, cache_key: str) -> None:
        """Nothing is cached."""

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """It has no weights."""

    def close(self) -> None:
        """Nothing is held."""


def held(kept: Kept, **limits: Any) -> tuple[HeldPolicy, Gateway]:
    policy = HeldPolicy()
    settings = ServeSettings(**(LIMITS | {"group_size": 1} | limits))
    return policy, Gateway(policy, TOKENIZER, kept, settings, name="g")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"


def test_a_conversation_has_one_request_at_a_time_and_its_feedback_comes_after_it():
    kept = Kept()
    policy, gateway = held(kept)
    with answering(gateway), ThreadPoolExecutor(1) as pool:
        client = Client(gateway.url)
        first = pool.submit(client.chat, "c", GO)
        assert policy.asked.wait(DEADLINE_S)
        second, early = client.chat("c", GO), client.feedback("c", 1.0)
        assert (second.status, second.body["error"]["code"]) == (409, "busy")
        assert (early.status, early.body["error"]["code"]) == (409, "busy")
        policy.go.set()
        assert first.result().status == 200
        assert client.feedback("c", 1.0).status == 200
    assert len(kept.groups[0].trajectories[0].turns) == 1


def test_the_reply_to_a_client_that_left_is_not_recorded():
    kept = Kept()
    policy, gateway = held(kept)
    with answering(gateway):
        client = Client(gateway.url)
        content = json.dumps({"messages": GO, "user": "c"}).encode()
        host, _, port = client.address.partition(":")
        with socket.create_connection((host, int(port))) as connection:
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            assert policy.asked.wait(DEADLINE_S)
        wait_until(lambda: client.status()["requests"].get("abandoned") == 1)
        assert client.status()["conversations"]["recorded"] == 0
        policy.go.set()
        assert client.chat("c", GO).body["id"] == "chatcmpl-c-1"
        client.feedback("c", 1.0)
    assert len(kept.groups[0].trajectories[0].turns) == 1


def test_at_the_end_a_running_request_is_answered():
    kept = Kept()
    policy, gateway = held(kept)
    gateway.start()
    client = Client(gateway.url)
    with ThreadPoolExecutor(2) as pool:
        request = pool.submit(client.chat, "c", GO)
        assert policy.asked.wait(DEADLINE_S)
        stop = pool.submit(gateway.stop)
        wait_until(lambda: refuses_connections(client))
        policy.go.set()
        assert request.result().text == "look"
        stop.result()
    counts = gateway.recorder.status()["conversations"]
    assert (counts["recorded"], counts["dropped"], kept.groups) == (1, {"shutdown": 1}, [])


def refuses_connections(client: Client) -> bool:
    host, _, port = client.address.partition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionError:
        return True
    return False


def test_at_the_end_a_request_that_takes_longer_than_the_grace_is_cancelled():
    policy, gateway = held(Kept(), grace_s=0)
    gateway.start()
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(Client(gateway.url).chat, "c", GO)
        assert policy.asked.wait(DEADLINE_S)
        gateway.stop()
        reply = request.result()
    assert (reply.status, reply.error) == (503, "The server is ending; the request was cancelled.")
    counts = gateway.recorder.status()["conversations"]
    assert (counts["recorded"], counts["open"], counts["dropped"]) == (0, 0, {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "a closed terminal"])
def test_the_command_serves_until_a_signal_and_says_what_became_of_the_conversations(switch_policy, tmp_path, number):
    model, tokenizer = load_model(switch_policy, device="cpu")
    model.resize_token_embeddings(len(tokenizer) + 8)
    save_model(tmp_path / "padded", model, tokenizer)
    command = [sys.executable, "-m", "agentgym_rft.cli.main", "serve", "--policy", str(tmp_path / "padded")]
    command += ["--port", "0", "--store", str(tmp_path / "store.db"), "--group-size", "2", "--max-context", "64"]
    command += ["--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = re.search(r"http://[^ ,]+", server.stdout.readline())[0]
        client = Client(url)
        assert client.post("/v1/completions", {"prompt": [len(tokenizer) + 7], "user": "d"}).status == 200
        for name in ("a", "b", "c", "d"):
            client.say(name, [], "Task 1, 2 turns left.")
        for name in ("a", "b", "c"):
            assert client.feedback(name, float(name == "a"), task_id="1").status == 200
        server.send_signal(number)
        output, errors = server.communicate(timeout=DEADLINE_S)
    finally:
        server.kill()
    assert (server.returncode, errors) == (0, "")
    assert output.splitlines()[-1] == "3 of 4 conversations stored in 2 groups; dropped: 1 shutdown"
    store = ExperienceStore(tmp_path / "store.db")
    sizes = [len(group.trajectories) for group in store.groups(store.keys)]
    assert (sizes, store.is_finished) == ([2, 1], True)
    store.close()
