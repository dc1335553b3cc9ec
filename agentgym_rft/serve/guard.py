"""Checks every request before its body is read: the token, the host name, and the size."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from agentgym_rft.serve.errors import RequestError, error_body
from agentgym_rft.serve.settings import ServeSettings, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware.

    If there is a token, a request needs it. Without one, only this machine can connect. Then the request's host name
    must be this machine's too: otherwise a web page could point a name of its own here (DNS rebinding).
    """

    def __init__(self, app: App, settings: ServeSettings) -> None:
        self._app = app
        self._token = None if settings.token is None else settings.token.encode()
        self._max_body = settings.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.lower(): value for name, value in scope["headers"]}
            try:
                self._check_caller(headers)
                self._check_size(headers, scope["method"])
            except RequestError as error:
                await _refuse(error, send)
                return
        await self._app(scope, receive, send)

    def _check_caller(self, headers: dict[bytes, bytes]) -> None:
        if self._token is None:
            host = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname or ""
            if not is_loopback(host):
                raise RequestError(403, f"Without a token, only this machine's own names are answered, not '{host}'.")
            return
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
            raise RequestError(401, "This needs the server's token, as 'Authorization: Bearer TOKEN'.")

    def _check_size(self, headers: dict[bytes, bytes], method: str) -> None:
        if method != "POST":
            return
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            raise RequestError(411, "The request has no Content-Length.")
        if int(length) > self._max_body:
            raise RequestError(413, f"The request has {int(length)} bytes, more than {self._max_body}.")


async def _refuse(error: RequestError, send: Send) -> None:
    body = json.dumps(error_body(error.status, str(error))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
