"""The endpoint as a client sees it: refusals in OpenAI's form, streams, log-probs, tokens of access."""

from __future__ import annotations

import json

import pytest

from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.errors import ConfigError
from agentgym_rft.serve.gateway import Gateway
from agentgym_rft.serve.settings import ServeSettings
from agentgym_rft.trainers.sft.model import train_tokenizer
from tests.serve.gateways import LIMITS, Client, Kept, answering

TOKENIZER = train_tokenizer(["look at the desk"] * 3, 300)
LOOK = [*TOKENIZER.encode("look", add_special_tokens=False), TOKENIZER.eos_token_id]
GO = [{"role": "user", "content": "go"}]


def respond(prompt):
    if len(prompt) == 13:
        raise RuntimeError("nobody thought of this")
    return [] if len(prompt) == 12 else LOOK


def gateway_of(kept: Kept | None = None, **limits: object) -> Gateway:
    settings = ServeSettings(**(LIMITS | limits))
    return Gateway(ScriptedPolicy(respond), TOKENIZER, kept or Kept(), settings, name="g")


@pytest.fixture(scope="module")
def client():
    gateway = gateway_of(max_body=20_000)
    with answering(gateway):
        yield Client(gateway.url)


CHAT = {"messages": GO}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (CHAT | {"stop": ["\n"]}, 400, "'stop' is not supported: the reply ends where the model ends it"),
        (CHAT | {"n": 2}, 400, "'n' is not supported: a conversation goes on with one reply"),
        (CHAT | {"top_p": 0.5}, 400, "'top_p' is not supported: the sampled tokens are trained as"),
        (CHAT | {"tools": [{"type": "function"}]}, 400, "'tools' is not supported: say in a message how"),
        (CHAT | {"top_logprobs": 2}, 400, "'top_logprobs' is not supported"),
        (CHAT | {"response_format": {"type": "json_object"}}, 400, "'response_format' is not supported"),
        (CHAT | {"best_temperature": 1}, 400, "'best_temperature' is not supported"),
        (CHAT | {"model": "gpt-9"}, 404, "There is no model 'gpt-9'; it is called 'policy'."),
        (CHAT | {"max_tokens": 63}, 400, "The row would have 67 tokens, 4 in the prompt and 63 in the reply, more"),
        (CHAT | {"max_tokens": 0}, 422, "Field 'max_tokens': input should be greater than or equal to 1."),
        (CHAT | {"temperature": -1}, 422, "Field 'temperature': input should be greater than or equal to 0."),
        (CHAT | {"temperature": True}, 422, "Field 'temperature': expected a number, not true or false."),
        (CHAT | {"temperature": float("inf")}, 422, "Field 'temperature': input should be a finite number."),
        (CHAT | {"seed": 2**63}, 422, "Field 'seed': input should be less than 9223372036854775808."),
        (CHAT | {"metadata": {"conversation_id": "a\nb"}}, 422, "A conversation id is 1 to 200 printable ASCII"),
        (CHAT | {"user": ""}, 422, "Field 'user': string should match pattern"),
        ({"messages": []}, 422, "Field 'messages': list should have at least 1 item after validation, not 0."),
        ({}, 422, "Field 'messages': field required."),
        ({"messages": [{"role": "tool", "content": "x"}]}, 422, "Field 'messages.0.role': input should be 'system',"),
        ({"messages": [*GO, {"role": "assistant", "content": "x"}]}, 400, "The last message is the assistant's"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 422, "half of a surrogate pair"),
        ({"messages": [{**GO[0], "tool_calls": [{"id": 1}]}]}, 400, "'tool_calls' is not supported"),
        ({"messages": [CALL, *GO]}, 400, "'tool_calls' is not supported: say in a message how to call them"),
        ({"messages": [{"role": "user", "content": None}]}, 422, "only the assistant's messages may be without text"),
        ({"messages": [{"role": "user"}]}, 422, "only the assistant's messages may be without text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            422,
            "content': expected text, or parts",
        ),
    ],
)
def test_a_request_that_cannot_be_answered_as_asked_is_refused_in_one_sentence(client, body, status, says):
    reply = client.post("/v1/chat/completions", body)
    assert reply.status == status
    assert says in reply.error
    assert set(reply.body["error"]) == {"message", "type", "param", "code"}
    assert client.status()["conversations"]["recorded"] == 0


@pytest.mark.parametrize(
    ("path", "content", "status", "says"),
    [
        ("/v1/chat/completions", b"{", 400, "The body is not JSON."),
        ("/v1/chat/completions", b'{"messages": ' + b"[" * 19_000, 400, "body"),
        ("/v1/chat/completions", b"x" * 20_001, 413, "The body has more than 20000 bytes, the most that"),
        ("/v1/chat/completion", b"{}", 404, "POST /v1/chat/completion: Not Found."),
        ("/v1/status", b"{}", 405, "POST /v1/status: Method Not Allowed."),
        ("/v1/completions", b'{"prompt": "go"}', 422, "Field 'prompt': input should be a valid list."),
        ("/v1/completions", b'{"prompt": [1, 5000]}', 400, "the id 5000; the policy knows 0 to 2"),
        ("/v1/completions", b'{"prompt": [true]}', 422, "Field 'prompt.0': input should be a valid integer."),
        ("/v1/feedback", b'{"conversation_id": "c", "reward": NaN}', 422, "Field 'reward': input should be a finite"),
        ("/v1/feedback", b'{"conversation_id": "c", "reward": true}', 422, "expected a number, not true or false."),
        ("/v1/feedback", b'{"conversation_id": "c"}', 422, "Field 'reward': field required."),
        ("/v1/feedback", b'{"conversation_id": "c", "reward": 1, "won": 3}', 422, "Field 'won': input should be"),
        ("/v1/feedback", b'{"conversation_id": "c", "reward": 1, "x": 3}', 422, "Field 'x': extra inputs are not"),
        ("/v1/feedback", b'{"conversation_id": "c", "reward": 1, "task_id": "\\ud800"}', 422, "Field 'task_id':"),
        ("/v1/feedback", b'{"conversation_id": "c", "reward": 1}', 404, "There is no conversation 'c'."),
    ],
)
def test_a_body_that_is_wrong_is_refused_in_one_sentence(client, path, content, status, says):
    reply = client.post(path, content)
    assert (reply.status, says in reply.error) == (status, True), reply.body
    assert client.get("/v1/health").status == 200


def test_content_in_parts_and_none_from_an_assistant_are_taken(client):
    def prompt_of(*messages):
        reply = client.chat(None, list(messages), return_token_ids=True)
        assert reply.status == 200, reply.body
        return reply.body["prompt_token_ids"]

    parts = [{"type": "text", "text": "g"}, {"type": "text", "text": "o"}]
    assert prompt_of({"role": "user", "content": parts}) == prompt_of(*GO)
    silent = prompt_of(*GO, {"role": "assistant", "content": ""}, *GO)
    for message in ({"content": None}, {"content": []}, {"content": None, "refusal": None, "tool_calls": None}, {}):
        assert prompt_of(*GO, {"role": "assistant", **message}, *GO) == silent


def test_an_empty_reply_that_comes_back_as_null_continues_the_row():
    kept = Kept()
    gateway = Gateway(ScriptedPolicy(lambda _: LOOK[-1:]), TOKENIZER, kept, ServeSettings(**LIMITS), name="g")
    with answering(gateway):
        client = Client(gateway.url)
        messages = list(GO)
        assert client.chat("c", messages).text == ""
        for content in (None, [], ""):
            messages += [{"role": "assistant", "content": content}, *GO]
            assert client.chat("c", messages).status == 200
        counts = client.status()["requests"]
        assert (counts["turns"], counts["restarts"]) == (4, 0)


def test_every_id_that_the_model_has_an_embedding_for_may_be_in_a_prompt():
    padded = len(TOKENIZER) + 5
    policy = ScriptedPolicy(lambda _: [padded - 1, LOOK[-1]])
    gateway = Gateway(policy, TOKENIZER, Kept(), ServeSettings(**LIMITS), vocab_size=padded)
    with answering(gateway):
        client = Client(gateway.url)
        first = client.post("/v1/completions", {"prompt": [5], "user": "c", "return_token_ids": True, "logprobs": 1})
        (choice,) = first.body["choices"]
        assert (choice["token_ids"][0], choice["logprobs"]["tokens"][0]) == (padded - 1, "")
        row = [5, *choice["token_ids"], 6]
        assert client.post("/v1/completions", {"prompt": row, "user": "c"}).status == 200
        reply = client.post("/v1/completions", {"prompt": [padded]})
    assert (reply.status, reply.error) == (400, f"The prompt has the id {padded}; the policy knows 0 to {padded - 1}.")


def test_a_policy_that_fails_is_an_error_of_the_server_and_leaves_the_conversation_as_it_was():
    kept = Kept()
    gateway = gateway_of(kept, group_size=1)
    with answering(gateway):
        client = Client(gateway.url)
        body = {"prompt": [5] * 3, "user": "c"}
        assert client.post("/v1/completions", body).status == 200
        reply = client.post("/v1/completions", body | {"prompt": [5] * 12})
        assert (reply.status, reply.body["error"]["type"]) == (500, "server_error")
        assert "The policy failed: The policy gave 0 ids" in reply.error
        assert client.status()["requests"]["policy_errors"] == 1
        reply = client.post("/v1/completions", body | {"prompt": [5] * 13})
        assert (reply.status, reply.error) == (500, "RuntimeError in the server; see its log.")
        assert client.feedback("c", 1.0).status == 200
    assert len(kept.groups[0].trajectories[0].turns) == 1


def test_fields_that_change_nothing_are_taken(client):
    body = CHAT | {"n": 1, "stop": None, "top_p": 1.0, "presence_penalty": 0, "tools": [], "store": False}
    assert client.post("/v1/chat/completions", body).status == 200


def test_a_stream_is_the_reply_as_events_that_end_with_done(client):
    reply = client.chat("s", GO, stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = reply.body.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    first, last, usage = (json.loads(event.removeprefix("data: ")) for event in events)
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "look"}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert usage["usage"] == {"prompt_tokens": 4, "completion_tokens": len(LOOK), "total_tokens": 4 + len(LOOK)}
    assert client.chat("s", GO).body["id"] == "chatcmpl-s-2", "it was recorded"


def test_log_probs_are_those_of_the_sampled_tokens(client):
    body = client.chat("l", GO, logprobs=True, return_token_ids=True).body
    (choice,) = body["choices"]
    assert choice["token_ids"] == LOOK
    content = choice["logprobs"]["content"]
    assert [entry["logprob"] for entry in content] == [0.0] * len(LOOK)
    assert "".join(entry["token"] for entry in content) == "look<|end|>"


def test_a_conversation_is_named_by_header_metadata_or_user_and_gets_a_name_without(client):
    body = CHAT | {"user": "u"}
    assert client.post("/v1/chat/completions", body).body["conversation_id"] == "u"
    body |= {"metadata": {"conversation_id": "m"}}
    assert client.post("/v1/chat/completions", body).body["conversation_id"] == "m"
    reply = client.post("/v1/chat/completions", body, **{"X-Conversation-Id": "h"})
    assert reply.headers["x-conversation-id"] == reply.body["conversation_id"] == "h"
    ids = {client.chat(None, GO).body["conversation_id"] for _ in range(3)}
    assert len(ids) == 3


def test_with_a_token_every_request_needs_it():
    gateway = gateway_of(token="s3cret")
    with answering(gateway):
        for client in (Client(gateway.url), Client(gateway.url, "S3cret"), Client(gateway.url, "s3cret2")):
            for reply in (client.get("/v1/health"), client.chat("c", GO), client.feedback("c", 1.0)):
                assert (reply.status, reply.body["error"]["type"]) == (401, "authentication_error")
        client = Client(gateway.url, "s3cret")
        assert client.chat("c", GO).status == 200
        assert client.get("/v1/health", Host="example.org").status == 200
    assert gateway.recorder.status()["conversations"]["recorded"] == 1


def test_without_a_token_only_this_machines_names_are_answered(client):
    assert client.get("/v1/health", Host="evil.example:8000").status == 403
    assert client.get("/v1/health", Host="localhost:1").status == 200


def test_an_address_that_others_reach_needs_a_token():
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org"):
        with pytest.raises(ConfigError, match="so it needs a token"):
            gateway_of(host=host)
    with pytest.raises(ConfigError, match="The token is empty"):
        gateway_of(token=" ")
    for token in ("s\xe9cret", "two\nlines"):
        with pytest.raises(ConfigError, match="The token has characters that HTTP cannot carry"):
            gateway_of(token=token)
    gateway_of(host="0.0.0.0", token="t")
    gateway_of(host="127.0.0.2")


def test_a_port_in_use_is_refused(client):
    port = int(client.address.partition(":")[2])
    with pytest.raises(ConfigError, match=f"Cannot listen at 127.0.0.1:{port}: Address already in use"):
        gateway_of(port=port).start()
