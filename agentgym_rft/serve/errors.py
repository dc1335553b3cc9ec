"""Refused requests, with errors in the form of the OpenAI interface."""

from __future__ import annotations

from typing import Any

from agentgym_rft.errors import AgentGymError

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 409: "conflict_error"}


class RequestError(AgentGymError):
    """A request is refused. `status` is the HTTP status, `param` the wrong field."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the body of an answer with an error."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
