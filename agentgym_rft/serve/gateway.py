"""The policy behind an OpenAI-compatible endpoint that records the conversations of agents written elsewhere.

    gateway = Gateway(policy, tokenizer, sink, ServeSettings(port=0))
    gateway.start()            # answers at gateway.url, in a thread
    gateway.load(weights, 1)   # new weights, at any time
    gateway.stop()

Everything, the policy included, runs in the one event loop of that thread.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from agentgym_rft.agents.agent import Prompt
from agentgym_rft.agents.card import ActionCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.rollouts.episode.boundary import check_completion
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.event_loop import EventLoop
from agentgym_rft.serve.asks import Ask
from agentgym_rft.serve.conversation import Conversation
from agentgym_rft.serve.errors import RequestError
from agentgym_rft.serve.groups import GroupSink
from agentgym_rft.serve.recorder import Recorder
from agentgym_rft.serve.replies import Answer
from agentgym_rft.serve.settings import ServeSettings, check_exposure

if TYPE_CHECKING:
    import uvicorn

_MAX_SWEEP_S = 10.0


class Gateway:
    """Serves one policy. Policy and sink stay the caller's to close.

    Args:
        policy: must accept new weights while requests run (`spans_versions`), if `load` is used.
        tokenizer: the policy's, with a chat template.
        sink: gets finished groups, in the gateway's thread.
        settings: address, limits, group size.
        clock: seconds, for the age of conversations.
        name: see `Recorder`.
        vocab_size: token ids that the policy knows, often more than its tokenizer has; default: the tokenizer's.
    Raises:
        ConfigError: FastAPI or uvicorn is missing, or an address that others can reach has no token.
        PolicyError: the chat template cannot be used.
    """

    def __init__(
        self,
        policy: Policy,
        tokenizer: Any,
        sink: GroupSink,
        settings: ServeSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        name: str | None = None,
        vocab_size: int | None = None,
    ) -> None:
        require_extra()
        check_exposure(settings)
        self.settings = settings
        self.chat = ChatFormat(tokenizer, ActionCard(), cache_size=0)  # texts come from outside and may be long
        self.recorder = Recorder(settings, sink, policy.release, clock=clock, name=name)
        self._policy = policy
        self._tokenizer = tokenizer
        self._vocab_size = len(tokenizer) if vocab_size is None else vocab_size
        self._loop = EventLoop()
        self._server: uvicorn.Server | None = None
        self._serving: Future[None] | None = None
        self._port = settings.port

    @property
    def version(self) -> int:
        """The version of the weights that answer."""
        return self._policy.version

    @property
    def url(self) -> str:
        """The address of the endpoint, as OpenAI's clients want it."""
        host = self.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/v1"

    def start(self) -> None:
        """Listen and answer in the background. Raises `ConfigError` where the address cannot be had."""
        import uvicorn

        from agentgym_rft.serve.app import make_app
        from agentgym_rft.serve.connections import TimedProtocol, most_connections

        listener = _listen(self.settings.host, self.settings.port)
        self._port = listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(self),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http=TimedProtocol,
                timeout_keep_alive=self.settings.request_s,
                limit_concurrency=most_connections(self.settings.max_conversations),
                timeout_graceful_shutdown=math.ceil(self.settings.grace_s),
            )
        )
        self._loop.start()
        server = self._server
        self._serving = self._loop.submit(lambda: server.serve(sockets=[listener]))
        self._loop.submit(self._sweep_now_and_then)

    def check(self) -> None:
        """Raise what ended the server, if it ended by itself."""
        if self._serving is not None and self._serving.done():
            self._serving.result()
            raise PolicyError("The server ended by itself.")

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Answer with these weights from now on; requests that run go on under them, see `Policy.load`."""

        async def load() -> None:
            self._policy.load(weights, version)

        self._loop.run(load)

    def status(self) -> dict[str, Any]:
        """Return the content of `GET /v1/status`."""

        async def status() -> dict[str, Any]:
            return {"policy_version": self.version, **self.recorder.status()}

        return self._loop.run(status)

    def stop(self) -> None:
        """Answer what runs, or cancel it after `grace_s`; write incomplete groups; count open conversations."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        try:
            self._serving.result()
        finally:
            self._server = self._serving = None
            self._loop.run(self._finish)
            self._loop.close()

    async def answer(self, ask: Ask) -> Answer:
        """Sample a reply and record it. Raises `RequestError`."""
        with self.recorder.replying(ask.conversation_id) as conversation:
            prompt = self._prompt(conversation, ask)
            completion = await self._sample(conversation, prompt, ask)
            text = self.chat.text(completion.ids)
            conversation.record(prompt, completion, ask.messages, text, ask.temperature)
            number = len(conversation.turns)
        return Answer(conversation.id, number, prompt.row, completion, text, int(time.time()))

    def spell(self, token: int) -> str:
        """Return the text of one token, special ones included."""
        return str(self._tokenizer.decode([token], skip_special_tokens=False))

    def _prompt(self, conversation: Conversation, ask: Ask) -> Prompt:
        if ask.messages is None:
            largest, last = max(ask.prompt_ids), self._vocab_size - 1
            if largest > last:
                raise RequestError(
                    400, f"The prompt has the id {largest}; the policy knows 0 to {last}.", param="prompt"
                )
            return conversation.token_prompt(ask.prompt_ids)
        try:
            return conversation.prompt(self.chat, ask.messages)
        except PolicyError as error:  # the template refuses the order of roles, say
            raise RequestError(400, str(error), param="messages") from error

    async def _sample(self, conversation: Conversation, prompt: Prompt, ask: Ask) -> Completion:
        limit = self.settings.max_context
        room = limit - len(prompt.row)
        wanted = ask.max_tokens if ask.max_tokens is not None else min(self.settings.max_tokens, max(room, 1))
        if wanted > room:
            raise RequestError(
                400,
                f"The row would have {len(prompt.row) + wanted} tokens, {len(prompt.row)} in the prompt and {wanted} "
                f"in the reply, more than {limit}.",
                code="context_length_exceeded",
            )
        seed = ask.seed
        if seed is None:
            seed = derive_seed(self.settings.seed, conversation.id, len(conversation.turns))
        request = SampleRequest(
            conversation.id, prompt.row, wanted, self.chat.stop_ids, temperature=ask.temperature, seed=seed
        )
        try:
            completion = await self._policy.sample(request)
            check_completion(completion)
        except PolicyError as error:
            self.recorder.count("policy_errors")
            raise RequestError(500, f"The policy failed: {error}", code="policy_error") from error
        return completion

    async def _sweep_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(min(_MAX_SWEEP_S, self.settings.expire_s / 2))
            self.recorder.sweep()

    async def _finish(self) -> None:
        await asyncio.sleep(0.01)  # lets cancelled requests leave their conversations
        self.recorder.finish()


def require_extra() -> None:
    """Raise `ConfigError` unless FastAPI and uvicorn are installed."""
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"Serving needs {' and '.join(missing)}: pip install 'agentgym-rft[serve]'.")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio does not turn off the delay of small packets, which costs 40 ms a reply.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen at {host}:{port}: {error.strerror}. Choose another --port or --host."
        ) from error
    return listener
