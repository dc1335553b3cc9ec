"""Players of an evaluation that have no token ids: scripts of the environment, random play, and chat endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from agentgym_rft.agents.agent import TextAgent, invalid_feedback
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.episode.forks import EpisodeRecord
from agentgym_rft.rollouts.episode.players import MakePlayer, Player, Reply
from agentgym_rft.rollouts.episode.run import run_episode
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.reflection.endpoint import ChatEndpoint
from agentgym_rft.rollouts.seats import Agents, scripted_agent
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.env_pool import EnvPool
from agentgym_rft.rollouts.workers.event_loop import Work

T = TypeVar("T")
ENDPOINT = "openai:"


@dataclass(frozen=True, slots=True)
class AgentWorkers:
    """Play episodes of some agents; they take the place of `LocalWorkers` in an evaluation."""

    pool: EnvPool
    policy: Policy
    agents: Agents
    max_context: int
    on_close: Callable[[], None]
    make_player: MakePlayer | None = None

    def run(self, work: Work[T]) -> T:
        """Return what a coroutine that plays episodes gives."""
        return self.pool.run(work)

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Play one episode, as soon as there is a place for it; of several agents, return the turns of all."""

        def episode(env: TextEnv) -> Awaitable[EpisodeRecord]:
            return run_episode(env, self.agents, self.policy, spec, make_player=self.make_player)

        return (await self.pool.play(episode, spec.step_timeout_s)).trajectory

    def close(self) -> None:
        """Close what these workers were made of."""
        self.on_close()


def text_workers(make_env: Callable[[], TextEnv], make_player: MakePlayer, *, max_concurrency: int) -> AgentWorkers:
    """Return workers that play environments of one agent with a player; the turns have no token ids."""
    pool = EnvPool(make_env, max_concurrency)
    agents = (scripted_agent("", "", "player"),)
    return AgentWorkers(pool, RoutedPolicy({}, ()), agents, 0, pool.close, make_player)


class EndpointPlayer:
    """A model behind a chat endpoint, prompted as the agent card says."""

    def __init__(self, endpoint: ChatEndpoint, card: AgentCard, spec: EpisodeSpec) -> None:
        self._endpoint = endpoint
        self._agent = TextAgent(card)
        self._spec = spec

    async def act(self, observation: str, info: Mapping[str, Any], turn: int) -> Reply:
        card = self._agent.card
        answer = await self._endpoint.ask(
            self._agent.messages(observation, info),
            max_tokens=card.action.max_tokens,
            temperature=self._spec.temperature,
            seed=derive_seed(self._spec.seed, turn),
        )
        parsed = self._agent.act(answer.text, answer.thought)
        tokens = {"sampled_tokens": answer.reply_tokens, "context_tokens": answer.prompt_tokens}
        counts = {name: count for name, count in tokens.items() if count is not None}
        if parsed.error is None:
            return Reply(parsed.action, answer.text, counts=counts)
        return Reply("", answer.text, parsed.error.value, invalid_feedback(card, parsed), counts=counts)


def check_script(kind: str, env: TextEnv, env_id: str) -> None:
    """Raise `ConfigError`, which names the environment by its id, if it does not have the script."""
    has = {"oracle": type(env).oracle is not TextEnv.oracle, "expert": type(env).expert is not TextEnv.expert}
    if not has.get(kind, True):
        raise ConfigError(f"Environment '{env_id}' has no {kind} that could play it.")


def named_endpoint(policy: str) -> ChatEndpoint:
    """Return the endpoint of `openai:MODEL@URL`. Raises `ConfigError` for a name that is not of this form."""
    model, _, url = policy.removeprefix(ENDPOINT).partition("@")
    return ChatEndpoint(model, url, retries=3)


def at_endpoint(endpoint: ChatEndpoint, card: AgentCard) -> MakePlayer:
    """Return what makes players that ask an endpoint."""

    async def make(env: EnvCalls, observation: str, spec: EpisodeSpec) -> Player:
        return EndpointPlayer(endpoint, card, spec)

    return make
