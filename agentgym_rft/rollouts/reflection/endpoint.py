"""Asks an OpenAI-compatible chat endpoint for reflections or actions. It returns text only, so nothing is trained."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.content import reply_message, reply_text, reply_thought
from agentgym_rft.agents.reflect import Refusal, parse_report, reflection_messages
from agentgym_rft.agents.template import Message
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.rollouts.episode.boundary import in_thread
from agentgym_rft.rollouts.episode.forks import EpisodeRecord
from agentgym_rft.rollouts.reflection.reflectors import Reflection

KEY_VARIABLE = "OPENAI_API_KEY"
_READ, _SHOWN = 10_000, 300  # bytes of the body of a refusal
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP codes after which the same request may succeed
# What the temperature leaves is sampled from whole: vLLM fills what is missing from the model's generation_config.json.
_WHOLE: Mapping[str, Any] = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_UNANSWERED = (URLError, OSError, http.client.HTTPException, ValueError, LookupError, TypeError)
_log = logging.getLogger(__name__)


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it would take the key and the conversation to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


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

    The key in the environment variable `OPENAI_API_KEY`, if there is one, is sent as a bearer token. Redirects are not
    followed. `top_p`, `top_k`, `min_p` and `repetition_penalty` are sent so that they change nothing; a server that
    refuses one of them by name is asked without them from then on, with a warning.

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
        self._open = build_opener(_NoRedirects).open
        self._sampling = _WHOLE
        self.notes: tuple[str, ...] = ()  # on what it refused, as far as that is known

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
        sampling = self._sampling
        request = Request(self._address, json.dumps({**body, **sampling}).encode(), headers)
        try:
            with self._open(request, timeout=self._timeout_s) as response:
                reply = json.load(response)
        except HTTPError as error:
            with error:
                said = error.read(_READ)
            if not any(name.encode() in said for name in sampling):
                raise HTTPError(error.url, error.code, error.reason, error.headers, io.BytesIO(said)) from error
            if self._sampling:  # of several requests at once, the first one says it
                self._sampling = {}
                names = ", ".join(_WHOLE)
                self.notes = (f"The endpoint takes no {names}: where the server has values of its own, those apply.",)
                _log.warning(self.notes[0])
            return self._post(body)
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
        said = " ".join(error.read(_SHOWN).decode("utf-8", errors="replace").split())
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
