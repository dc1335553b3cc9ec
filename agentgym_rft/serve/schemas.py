"""The bodies of requests. A field is refused if it would make the reply differ from the sampled text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from agentgym_rft.agents.content import text_parts
from agentgym_rft.serve.errors import RequestError

MODEL = "policy"  # the one model there is
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "stop": ([], ""),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
_WITHOUT_EFFECT = frozenset({"store", "service_tier", "parallel_tool_calls", "prompt_cache_key", "safety_identifier"})
_WHY = {
    "stop": "the reply ends where the model ends it, and a text cut afterwards would not be the sampled tokens",
    "n": "a conversation goes on with one reply; ask in several conversations",
    "tools": "say in a message how to call them, and read the calls from the reply's text",
}


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text has half of a surrogate pair") from error
    return text


def _joined(content: Any) -> Any:
    """Return the text of a message's content, which may come in parts."""
    if not isinstance(content, list):
        return content
    texts = text_parts(content)
    if len(texts) < len(content):
        raise ValueError("expected text, or parts of type 'text'")
    return "".join(texts)


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


Text = Annotated[str, AfterValidator(_encodable)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=500)]
ConversationId = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,200}$")]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class ChatMessage(BaseModel):
    """A message of the conversation. Names and annotations, which some clients send back, are left out."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Text | None, BeforeValidator(_joined)] = None

    @model_validator(mode="after")
    def _has_text(self) -> ChatMessage:
        if self.content is None and self.role != "assistant":
            raise ValueError("only the assistant's messages may be without text")
        return self

    def plain(self) -> dict[str, str]:
        """Return role and text, as chat templates take them."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": self.content or ""}


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class SampleBody(BaseModel):
    """The fields that both kinds of request share. `check_supported` checks fields that are not named here."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    temperature: Annotated[Number, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    user: ConversationId | None = None
    metadata: dict[str, Any] | None = None


class ChatBody(SampleBody):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None


class CompletionBody(SampleBody):
    """`POST /v1/completions`. A prompt of text is refused: its tokens would be a guess."""

    prompt: Annotated[list[Annotated[int, Field(ge=0, strict=True)]], Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=1)] | None = None


class FeedbackBody(BaseModel):
    """`POST /v1/feedback`. `metadata` is kept with the trajectory."""

    model_config = ConfigDict(extra="forbid")

    conversation_id: ConversationId
    reward: Number
    task_id: Name | None = None
    group_id: Name | None = None
    won: bool | None = None
    metadata: Annotated[dict[Text, Text | int | float | bool | None], Field(max_length=64)] = Field(
        default_factory=dict
    )


def check_supported(body: SampleBody) -> None:
    """Raise `RequestError` for another model, and for fields whose effect a reply would lack."""
    if body.model not in (None, MODEL):
        raise RequestError(404, f"There is no model '{body.model}'; it is called '{MODEL}'.", param="model")
    for name, value in (body.model_extra or {}).items():
        if value is None or name in _WITHOUT_EFFECT or value in _NEUTRAL.get(name, ()):
            continue
        reason = _WHY.get(name, "the sampled tokens are trained as the model alone gives them")
        raise RequestError(400, f"'{name}' is not supported: {reason}.", param=name, code="unsupported_parameter")


def plain_messages(body: ChatBody) -> tuple[dict[str, str], ...]:
    """Return the conversation as chat templates take it. Raises `RequestError` for calls of tools and open ends."""
    for message in body.messages:
        called = [name for name in ("tool_calls", "function_call") if (message.model_extra or {}).get(name)]
        if called:
            raise RequestError(400, f"'{called[0]}' is not supported: {_WHY['tools']}.", param="messages")
    messages = tuple(message.plain() for message in body.messages)
    if messages[-1]["role"] == "assistant":
        raise RequestError(400, "The last message is the assistant's; expected one to reply to.", param="messages")
    return messages


def conversation_of(header: str | None, body: SampleBody) -> str | None:
    """Return the id in the header, else in `metadata`, else in `user`; None for a conversation without one."""
    given = header if header is not None else (body.metadata or {}).get("conversation_id", body.user)
    if given is None:
        return None
    if not isinstance(given, str) or not 1 <= len(given) <= 200 or not (given.isascii() and given.isprintable()):
        raise RequestError(422, "A conversation id is 1 to 200 printable ASCII characters.", param="conversation_id")
    return given
