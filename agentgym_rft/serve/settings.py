"""The settings of a gateway."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field, StringConstraints

from agentgym_rft.config.base import Options
from agentgym_rft.errors import ConfigError

TOKEN_VARIABLE = "AGENTGYM_SERVE_TOKEN"


class ServeSettings(Options):
    """Address, limits and seed of a gateway."""

    host: str = Field("127.0.0.1", description="address to listen at; any but this machine's own needs a token")
    port: int = Field(8000, ge=0, le=65535, description="0: a free one")
    token: Annotated[str, StringConstraints(strip_whitespace=True)] | None = Field(
        None, description="what every request must carry as Authorization: Bearer"
    )
    group_size: int = Field(8, ge=1, description="conversations of a group")
    max_context: int = Field(2048, ge=16, description="tokens in one row, prompt and reply")
    max_tokens: int = Field(256, ge=1, description="of a reply, where the request does not say")
    max_conversations: int = Field(1024, ge=1, description="open at once")
    max_turns: int = Field(256, ge=1, description="replies in one conversation")
    max_body: int = Field(1_000_000, ge=1_000, description="bytes of a request")
    request_s: int = Field(30, ge=1, description="a client has so long to send a whole request, or to take the answer")
    expire_s: float = Field(3600.0, gt=0, description="a conversation without a request for so long is dropped")
    grace_s: float = Field(10.0, ge=0, description="running requests get so long at the end")
    seed: int = Field(0, ge=0, description="of requests that name none")


def check_exposure(settings: ServeSettings) -> None:
    """Raise `ConfigError` for an address that others can reach, without a token, and for a token that is none."""
    if settings.token == "":
        raise ConfigError(
            f"The token is empty. Give --token a long random text, or leave it out, and unset {TOKEN_VARIABLE}."
        )
    if settings.token is not None and not (settings.token.isascii() and settings.token.isprintable()):
        raise ConfigError("The token has characters that HTTP cannot carry. Give one of printable ASCII characters.")
    if settings.token is None and not is_loopback(settings.host):
        raise ConfigError(
            f"Other machines can reach --host {settings.host}, so it needs a token: give --token, or set "
            f"{TOKEN_VARIABLE}."
        )


def is_loopback(host: str) -> bool:
    """Return True for addresses that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
