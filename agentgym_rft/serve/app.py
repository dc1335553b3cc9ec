"""The HTTP side of a gateway: its routes and error answers. Needs the extra `serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from agentgym_rft.serve.asks import Ask
from agentgym_rft.serve.conversation import Outcome
from agentgym_rft.serve.errors import RequestError, error_body
from agentgym_rft.serve.guard import Guard
from agentgym_rft.serve.recorder import Recorder
from agentgym_rft.serve.replies import Answer, Spell, chat_reply, completion_reply, events
from agentgym_rft.serve.schemas import (
    MODEL,
    ChatBody,
    CompletionBody,
    FeedbackBody,
    SampleBody,
    check_supported,
    conversation_of,
    plain_messages,
)
from agentgym_rft.serve.settings import ServeSettings

ID_HEADER = "X-Conversation-Id"


class Backend(Protocol):
    """The part of a gateway that the routes use."""

    settings: ServeSettings
    recorder: Recorder

    @property
    def version(self) -> int: ...

    async def answer(self, ask: Ask) -> Answer: ...

    def spell(self, token: int) -> str: ...


def make_app(backend: Backend) -> FastAPI:
    """Return the application, with all its routes."""
    app = FastAPI(title="agentgym serve", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, settings=backend.settings)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _other)
    app.add_exception_handler(Exception, _failed)

    @app.get("/v1/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/status")
    async def status() -> dict[str, Any]:
        return {"policy_version": backend.version, **backend.recorder.status()}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {
            "id": MODEL,
            "object": "model",
            "created": 0,
            "owned_by": "agentgym_rft",
            "max_model_len": backend.settings.max_context,
            "policy_version": backend.version,
        }
        return {"object": "list", "data": [model]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request, body: ChatBody) -> Response:
        check_supported(body)
        ask = Ask(
            conversation_id=conversation_of(request.headers.get(ID_HEADER), body),
            messages=plain_messages(body),
            max_tokens=body.max_completion_tokens or body.max_tokens,
            temperature=1.0 if body.temperature is None else body.temperature,
            seed=body.seed,
        )
        answer = await _while_connected(request, backend, ask)
        spell: Spell | None = backend.spell if body.logprobs else None
        return _response(answer, chat_reply(answer, spell, token_ids=bool(body.return_token_ids)), body)

    @app.post("/v1/completions")
    async def completions(request: Request, body: CompletionBody) -> Response:
        check_supported(body)
        ask = Ask(
            conversation_id=conversation_of(request.headers.get(ID_HEADER), body),
            prompt_ids=tuple(body.prompt),
            max_tokens=body.max_tokens,
            temperature=1.0 if body.temperature is None else body.temperature,
            seed=body.seed,
        )
        answer = await _while_connected(request, backend, ask)
        spell: Spell | None = backend.spell if body.logprobs is not None else None
        return _response(answer, completion_reply(answer, spell, token_ids=bool(body.return_token_ids)), body)

    @app.post("/v1/feedback")
    async def feedback(body: FeedbackBody) -> dict[str, Any]:
        outcome = Outcome(
            reward=body.reward,
            task_id=body.task_id or body.group_id or body.conversation_id,
            won=body.reward > 0 if body.won is None else body.won,
            metadata=dict(body.metadata),
        )
        place = backend.recorder.feedback(body.conversation_id, outcome, task_id=body.task_id, group_id=body.group_id)
        return {
            "conversation_id": body.conversation_id,
            "group_id": place.group_id,
            "num_members": place.num_members,
            "is_written": place.is_written,
        }

    return app


async def _while_connected(request: Request, backend: Backend, ask: Ask) -> Answer:
    """Wait for the answer. If the client disconnects, stop waiting and do not record the reply."""
    answering = asyncio.ensure_future(backend.answer(ask))
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            backend.recorder.count("abandoned")
            raise RequestError(499, "The client closed the connection.")
    except asyncio.CancelledError as error:
        raise RequestError(503, "The server is ending; the request was cancelled.", code="shutdown") from error
    finally:
        for task in (answering, leaving):
            task.cancel()
        await _ended(answering, leaving)
    return answering.result()


async def _ended(*tasks: Awaitable[Any]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        """The body was read already; nothing else of interest comes."""


def _response(answer: Answer, body: dict[str, Any], asked: SampleBody) -> Response:
    headers = {ID_HEADER: answer.conversation_id}
    if not asked.stream:
        return JSONResponse(body, headers=headers)
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    return Response(events(body, usage=usage), media_type="text/event-stream", headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse(error_body(error.status, str(error), error.param, error.code), error.status)


async def _invalid(request: Request, error: Exception) -> Response:
    """Return the first thing that is wrong with a body, in one sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse(error_body(400, "The body is not JSON."), 400)
    where = ".".join(str(part) for part in first["loc"][1:])
    told = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    said = f"{told[0].lower()}{told[1:]}".rstrip(".")
    sentence = f"Field '{where}': {said}." if where else f"The body cannot be read: {said}."
    return JSONResponse(error_body(422, sentence, where or None), 422)


async def _other(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = f"{request.method} {request.url.path}: {error.detail}."
    return JSONResponse(error_body(error.status_code, sentence), error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(500, f"{type(error).__name__} in the server; see its log."), 500)
