"""The bodies of answers, in the form that OpenAI's clients read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.serve.schemas import MODEL

Spell = Callable[[int], str]  # the text of one token, special ones included


@dataclass(frozen=True, slots=True)
class Answer:
    """A sampled reply and its conversation."""

    conversation_id: str
    number: int  # of the reply in its conversation, from 1
    prompt_ids: Sequence[int]  # the whole row before it
    completion: Completion
    text: str
    created: int  # Unix time, seconds

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        prompt, reply = len(self.prompt_ids), len(self.completion.ids)
        return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}

    def head(self, kind: str, prefix: str) -> dict[str, Any]:
        """Return the first fields of every body."""
        versions = {"policy_version": self.completion.policy_version, "last_version": self.completion.last_version}
        return {
            "id": f"{prefix}-{self.conversation_id}-{self.number}",
            "object": kind,
            "created": self.created,
            "model": MODEL,
            "conversation_id": self.conversation_id,
            **versions,
        }


def chat_reply(answer: Answer, spell: Spell | None, *, token_ids: bool) -> dict[str, Any]:
    """Return the body for a chat; with log-probs if there is `spell`."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text},
        "logprobs": None if spell is None else {"content": _chat_logprobs(answer, spell)},
        "finish_reason": answer.completion.stop,
    }
    body = answer.head("chat.completion", "chatcmpl") | {"choices": [choice], "usage": answer.usage}
    return _with_ids(body, answer) if token_ids else body


def completion_reply(answer: Answer, spell: Spell | None, *, token_ids: bool) -> dict[str, Any]:
    """Return the body for a prompt of token ids."""
    choice = {
        "index": 0,
        "text": answer.text,
        "logprobs": None if spell is None else _completion_logprobs(answer, spell),
        "finish_reason": answer.completion.stop,
    }
    body = answer.head("text_completion", "cmpl") | {"choices": [choice], "usage": answer.usage}
    return _with_ids(body, answer) if token_ids else body


def events(body: dict[str, Any], *, usage: bool) -> str:
    """Return a body as server-sent events: the reply in one piece, then its end, then the usage if asked for."""
    head = {key: value for key, value in body.items() if key not in ("choices", "usage")}
    is_chat = head["object"] == "chat.completion"
    head["object"] = "chat.completion.chunk" if is_chat else head["object"]
    (choice,) = body["choices"]
    said = {"delta": choice["message"]} if is_chat else {"text": choice["text"]}
    over: dict[str, Any] = {"delta": {}} if is_chat else {"text": ""}
    rest = {key: value for key, value in choice.items() if key not in ("message", "text", "finish_reason")}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{**rest, **said, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, **over, "logprobs": None, "finish_reason": choice["finish_reason"]}]},
    ]
    if usage:
        chunks.append({**head, "choices": [], "usage": body["usage"]})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def _with_ids(body: dict[str, Any], answer: Answer) -> dict[str, Any]:
    (choice,) = body["choices"]
    choices = [{**choice, "token_ids": list(answer.completion.ids)}]
    return {**body, "choices": choices, "prompt_token_ids": list(answer.prompt_ids)}


def _chat_logprobs(answer: Answer, spell: Spell) -> list[dict[str, Any]]:
    found = []
    for token, logprob in zip(answer.completion.ids, answer.completion.logprobs, strict=True):
        text = spell(token)
        found.append({"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []})
    return found


def _completion_logprobs(answer: Answer, spell: Spell) -> dict[str, Any]:
    tokens = [spell(token) for token in answer.completion.ids]
    offsets = [sum(map(len, tokens[:number])) for number in range(len(tokens))]
    logprobs = list(answer.completion.logprobs)
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": None, "text_offset": offsets}
