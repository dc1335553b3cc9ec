"""Chat replies of a policy outside an episode, such as reflections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.policies.base import Policy, SampleRequest
from agentgym_rft.agents.template import Message
from agentgym_rft.core import Turn
from agentgym_rft.rollouts.episode.boundary import check_completion


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation that needs one reply.

    `key` is its cache key while the policy samples; `seed` is its random state.
    """

    key: str
    messages: Sequence[Message]
    max_tokens: int
    temperature: float
    seed: int


class Completer:
    """Answers chat requests with a policy and its chat format."""

    def __init__(self, chat: ChatFormat, policy: Policy, max_context: int) -> None:
        self._chat = chat
        self._policy = policy
        self._max_context = max_context

    async def reply(self, request: ChatRequest) -> Turn | None:
        """Return the reply as a turn, its text in `info["text"]`; None if prompt and reply need more than the context.

        Raises `PolicyError` where the policy does.
        """
        prompt = self._chat.opening(request.messages)
        if len(prompt) + request.max_tokens > self._max_context:
            return None
        sample_request = SampleRequest(
            request.key,
            prompt,
            request.max_tokens,
            self._chat.stop_ids,
            temperature=request.temperature,
            seed=request.seed,
        )
        try:
            completion = await self._policy.sample(sample_request)
        finally:
            self._policy.release(request.key)
        check_completion(completion)
        return Turn(
            context_ids=prompt,
            action_ids=completion.ids,
            logprobs=completion.logprobs,
            policy_version=completion.policy_version,
            last_version=completion.last_version,
            info={"observation": request.messages[-1]["content"], "text": self._chat.text(completion.ids)},
        )
