"""Asks an OpenAI-compatible chat endpoint for reflections or actions. It returns text only, so nothing is trained."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.content import reply_message, reply_text, reply_thought
from agentgym_rft.agents.reflect import Refusal, parse_report, reflection_messages
from agentgym_rft.agents.template import Message
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.rollouts.episode.boundary import in_thread
from agentgym_rft.rollouts.episode.forks import EpisodeRecord
from agentgym_rft.rollouts.reflection.reflectors import Reflection

KEY_VARIABLE = "OPENAI_API_KEY"
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP codes after which the same request may succeed
_UNANSWERED = (URLError, OSError, http.client.HTTPException, ValueError, LookupError, TypeError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, what was thought before it where the endpoint tells that apart, and the tokens that it says it read and
    wrote; None where it does not say.
    """

    text: str
    thought: str
    prompt_tokens: int | None
    reply_tokens: int | None


class ChatEndpoint:
    """A model behind `POST {url}/chat/completions`.

    The key in the environment variable `OPENAI_API_KEY`, if there is one, is sent as a bearer token.

    Args:
        model: name that the endpoint knows.
        url: up to and without `/chat/completions`, for example `http://localhost:8000/v1`.
        timeout_s: of one request.
        retries: how often a request is repeated after a failure that may be temporary.
        backoff_s: wait before the first of them; each later one waits twice as long.
    Raises:
        ConfigError: `url` is not an http address.
    """

    def __init__(
        self, model: str, url: str, *, timeout_s: float = 120.0, retries: int = 0, backoff_s: float = 1.0
    ) -> None:
        if not model or urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(
                f"'{model}@{url}' is no endpoint. Write openai:MODEL@URL, with a URL like http://localhost:8000/v1."
            )
        self.model = model
        self._address = f"{url.rstrip('/')}/chat/completions"
        self._timeout_s = timeout_s
        self._retries = retries
        self._backoff_s = backoff_s

    async def ask(
        self, messages: Sequence[Message], *, max_tokens: int, temperature: float, seed: int | None = None
    ) -> Answer:
        """Return the model's reply to a conversation. Raises `PolicyError` where there is none, after the retries."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if seed is not None:
            body["seed"] = seed % 2**31
        for attempt in range(self._retries + 1):
            try:
                return await in_thread(lambda: self._post(body))
            except _UNANSWERED as error:
                if attempt == self._retries or not _may_pass(error):
                    raise PolicyError(f"The endpoint gave no reply: {_sentence(error)}") from error
            await asyncio.sleep(self._backoff_s * 2**attempt)
        raise AssertionError("the last attempt returned or raised")

    def _post(self, body: dict[str, Any]) -> Answer:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = Request(self._address, json.dumps(body).encode(), headers)
        with urlopen(request, timeout=self._timeout_s) as response:
            reply = json.load(response)
        message = reply_message(reply)
        return Answer(
            reply_text(message),
            reply_thought(message),
            _used(reply, "prompt_tokens"),
            _used(reply, "completion_tokens"),
        )


def _used(reply: Any, kind: str) -> int | None:
    usage = reply.get("usage")
    count = usage.get(kind) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def _may_pass(error: Exception) -> bool:
    """Return whether a failure may pass: a busy or unreachable server may recover, a refused request is refused
    again.
    """
    return (
        error.code in _PASSING
        if isinstance(error, HTTPError)
        else isinstance(error, (OSError, http.client.HTTPException))
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, HTTPError):
        said = " ".join(error.read(300).decode("utf-8", errors="replace").split())
        return f"HTTP {error.code} {error.reason}" + (f": {said}" if said else ".")
    reason = error.reason if isinstance(error, URLError) else error
    kind = "" if isinstance(reason, TypeError) else f"{type(reason).__name__}: "  # ours is a sentence of its own
    return f"{kind}{reason}".rstrip(". ") + "."


class EndpointReflector:
    """A `ChatEndpoint` that reflects on episodes.

    A request that fails or takes too long is a reflection refused with `reflector_error`; it is not repeated.

    Args:
        card: of the agent.
        model, url: of the endpoint.
    Raises:
        ConfigError: `url` is not an http address.
    """

    def __init__(self, card: AgentCard, model: str, url: str, *, timeout_s: float = 120.0) -> None:
        self._card = card
        self._endpoint = ChatEndpoint(model, url, timeout_s=timeout_s)

    async def reflect(self, played: EpisodeRecord) -> Reflection:
        card = self._card.reflect
        messages = reflection_messages(self._card, played.trajectory)
        try:
            answer = await self._endpoint.ask(messages, max_tokens=card.max_tokens, temperature=card.temperature)
        except PolicyError:
            return Reflection(Refusal.REFLECTOR_ERROR)
        return Reflection(parse_report(answer.text, len(played.trajectory.turns)), answer.text)
