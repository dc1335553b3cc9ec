"""Reflections from an OpenAI-compatible chat endpoint. Only text comes back, so nothing of it is ever trained."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import Message
from agentgym_rft.agents.reflect import Refusal, parse_report, reflection_messages
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.forks import Played
from agentgym_rft.rollouts.reflectors import Reflection

KEY_VARIABLE = "OPENAI_API_KEY"


class EndpointReflector:
    """A model behind `POST {url}/chat/completions`.

    The key in the environment variable `OPENAI_API_KEY`, if there is one, is sent as a bearer token. A request that
    fails or takes longer than `timeout_s` is a reflection refused with `reflector_error`; it is not repeated.

    Args:
        card: of the agent.
        model: name that the endpoint knows.
        url: up to and without `/chat/completions`, for example `http://localhost:8000/v1`.
    Raises:
        ConfigError: `url` is not an http address.
    """

    def __init__(self, card: AgentCard, model: str, url: str, *, timeout_s: float = 120.0) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(
                f"'{url}' is no endpoint. Write openai:MODEL@URL, with a URL like http://localhost:8000/v1."
            )
        self._card = card
        self._model = model
        self._address = f"{url.rstrip('/')}/chat/completions"
        self._timeout_s = timeout_s

    async def reflect(self, played: Played) -> Reflection:
        messages = reflection_messages(self._card, played.trajectory)
        try:
            text = await asyncio.to_thread(self._ask, messages)
        except (URLError, OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return Reflection(Refusal.REFLECTOR_ERROR)
        return Reflection(parse_report(text, len(played.trajectory.turns)), text)

    def _ask(self, messages: Sequence[Message]) -> str:
        card = self._card.reflect
        body: dict[str, Any] = {
            "model": self._model,
            "messages": list(messages),
            "max_tokens": card.max_tokens,
            "temperature": card.temperature,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = Request(self._address, json.dumps(body).encode(), headers)
        with urlopen(request, timeout=self._timeout_s) as response:
            content = json.load(response)["choices"][0]["message"]["content"]
        if not isinstance(content, str):
            raise TypeError(f"The endpoint gave a {type(content).__name__}, expected text.")
        return content
