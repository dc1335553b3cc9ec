"""Checks every request before the routes see it: the token, the host name, the origin, the type and the size."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

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

    A web page of another origin is refused: a browser sends its `Origin`, and sends JSON only after it has asked, which
    nothing here allows. Versions of FastAPI differ in whether they read a body of another type.
    """

    def __init__(self, app: App, settings: ServeSettings) -> None:
        self._app = app
        self._token = None if settings.token is None else settings.token.encode()
        self._max_body = settings.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                self._check_caller(headers)
                _check_origin(headers)
                if scope["method"] == "POST":
                    _check_type(headers)
                body = await self._body(receive)
            except RequestError as error:
                await _refuse(error, send)
                return
            if body is None:
                return
            receive = _first(body, receive)
        await self._app(scope, receive, send)

    def _check_caller(self, headers: Headers) -> None:
        if self._token is None:
            host = _host(headers.get("host", "")) or ""
            if not is_loopback(host):
                raise RequestError(403, f"Without a token, only this machine's own names are answered, not '{host}'.")
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            raise RequestError(401, "This needs the server's token, as 'Authorization: Bearer TOKEN'.")

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the whole body, whatever length its headers tell; None if the client has left."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise RequestError(413, f"The body has more than {self._max_body} bytes, the most that are taken.")
            if not message.get("more_body", False):
                return bytes(body)


def _check_origin(headers: Headers) -> None:
    host = headers.get("host", "")
    for origin in headers.getlist("origin"):
        if origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            raise RequestError(403, f"Pages of other origins are not answered; this request is of '{origin}'.")


def _check_type(headers: Headers) -> None:
    for value in headers.getlist("content-type") or ["missing"]:
        if value.partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, f"The type of the body is '{value}'; send it as application/json.")


def _host(address: str) -> str | None:
    try:
        return urlsplit(f"//{address}").hostname
    except ValueError:  # half of an IPv6 address
        return None


def _first(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that was read already, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> MutableMapping[str, Any]:
        return messages.pop() if messages else await receive()

    return next_message


async def _refuse(error: RequestError, send: Send) -> None:
    body = json.dumps(error_body(error.status, str(error))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
