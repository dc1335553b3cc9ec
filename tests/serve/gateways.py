"""A gateway over a tiny policy, and a client that speaks plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.core import Group
from agentgym_rft.serve.gateway import Gateway
from agentgym_rft.serve.groups import GroupSink
from agentgym_rft.serve.settings import ServeSettings

SYSTEM = {"role": "system", "content": "Reply."}
LIMITS = {"port": 0, "max_context": 64, "max_tokens": 8, "group_size": 2}


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Kept:
    """A sink in memory; `refuses` makes it a full disk."""

    groups: list[Group] = field(default_factory=list)
    refuses: bool = False

    def write(self, group: Group) -> None:
        if self.refuses:
            raise OSError(28, "No space left on device")
        self.groups.append(group)

    def num_trained(self) -> None:
        """Nobody trains."""

    def close(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class Reply:
    """Status, headers and body of an answer; the body parsed if it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def text(self) -> str:
        return self.body["choices"][0]["message"]["content"]

    @property
    def error(self) -> str:
        return self.body["error"]["message"]


class Client:
    """One connection a request, so that threads can share it."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.address = urlsplit(url).netloc
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, content, {"Content-Type": "application/json", **headers})

    def send(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> Reply:
        connection = HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, path, content, self.headers | headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            kind = answer.headers.get("content-type", "")
            return Reply(answer.status, dict(answer.headers), json.loads(text) if "json" in kind else text)
        finally:
            connection.close()

    def chat(self, conversation: str | None, messages: list[dict[str, str]], **more: Any) -> Reply:
        headers = {} if conversation is None else {"X-Conversation-Id": conversation}
        return self.post("/v1/chat/completions", {"model": "policy", "messages": messages, **more}, **headers)

    def say(self, conversation: str, messages: list[dict[str, str]], text: str, **more: Any) -> str:
        """Say something more in a conversation, whose messages grow by it and by the reply."""
        messages.append({"role": "user", "content": text})
        reply = self.chat(conversation, messages, **more)
        assert reply.status == 200, reply.body
        messages.append({"role": "assistant", "content": reply.text})
        return reply.text

    def feedback(self, conversation: str, reward: float, **more: Any) -> Reply:
        return self.post("/v1/feedback", {"conversation_id": conversation, "reward": reward, **more})

    def status(self) -> Any:
        return self.get("/v1/status").body


@contextmanager
def serving(
    policy: Path, sink: GroupSink | None = None, clock: Clock | None = None, **limits: Any
) -> Iterator[Gateway]:
    """A gateway that answers, with the tiny policy."""
    settings = ServeSettings(**(LIMITS | limits))
    model, tokenizer = load_model(policy, device="cpu")
    source = HFPolicy(model, max_context=settings.max_context, num_threads=1, spans_versions=True)
    gateway = Gateway(source, tokenizer, Kept() if sink is None else sink, settings, clock=clock or Clock(), name="g")
    with answering(gateway):
        yield gateway


@contextmanager
def answering(gateway: Gateway) -> Iterator[None]:
    """Started before and stopped after."""
    gateway.start()
    try:
        yield
    finally:
        gateway.stop()
