"""Rollouts in this process: many episodes at once on one event loop, each at its own pace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard, load_card
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork
from agentgym_rft.rollouts.episode.run import run_episode
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.policies import refused_as_data
from agentgym_rft.rollouts.reflection.chat import ChatRequest, Completer
from agentgym_rft.rollouts.reflection.reflectors import Reflection, Reflector, SpokenReflector
from agentgym_rft.rollouts.seats import Agents, only_agent, open_agents
from agentgym_rft.rollouts.workers.env_maker import env_maker
from agentgym_rft.rollouts.workers.env_pool import EnvPool
from agentgym_rft.rollouts.workers.event_loop import Work

T = TypeVar("T")


class LocalWorkers:
    """Runs episodes with a bounded number of environments at once.

    Environments are reused between episodes, see `EnvPool`.

    Args:
        make_env: builds one environment.
        card, tokenizer: those of the agents.
        policy: shared by all episodes.
        max_concurrency: episodes at once; a finished one frees its place immediately.
        max_context: tokens in one row.
        reflector: reflects on episodes, if a strategy needs it; by default the policy itself.
        agents: those of an environment that names them; by default one agent with the card.
    """

    def __init__(
        self,
        make_env: Callable[[], TextEnv],
        card: AgentCard,
        tokenizer: Any,
        policy: Policy,
        *,
        max_concurrency: int,
        max_context: int,
        reflector: Reflector | None = None,
        agents: Agents = (),
    ) -> None:
        self.card = card
        self.max_context = max_context
        self.chat = chat_format(tokenizer, card)
        self.agents = agents or only_agent(card, self.chat)
        self._pool = EnvPool(make_env, max_concurrency)
        self._policy = policy
        self._completer = Completer(self.chat, policy, max_context)
        self._reflector = reflector or SpokenReflector(card, self.reply, is_own=True)

    @property
    def version(self) -> int:
        """The version of the weights that play."""
        return self._policy.version

    def run(self, work: Work[T]) -> T:
        """Run a coroutine that plays episodes and return its result."""
        return self._pool.run(work)

    def start(self) -> None:
        """Play in a thread from now on, so that episodes go on between calls of `run` and `submit`."""
        self._pool.loop.start()

    def submit(self, work: Work[T]) -> Future[T]:
        """Begin a coroutine that plays episodes; `start` comes first."""
        return self._pool.loop.submit(work)

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Play with these weights from now on, see `Policy.load`.

        Running episodes use them from the next forward pass on.
        """
        self._policy.load(weights, version)

    def take_faults(self) -> dict[str, int]:
        """No faults: without other processes, every error is the outcome of an episode."""
        return {}

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """Return one episode, as soon as there is a place for it; with several agents, the trajectory of
        `spec.view`.
        """
        return (await self.record(spec)).of(spec.view)

    async def record(self, spec: EpisodeSpec, start: Fork | None = None) -> EpisodeRecord:
        """Return one episode, from its beginning or from a fork, with all that a fork of it needs."""

        def episode(env: TextEnv) -> Awaitable[EpisodeRecord]:
            return run_episode(env, self.agents, self._policy, spec, start)

        return await self._pool.play(episode, spec.step_timeout_s)

    async def reply(self, request: ChatRequest) -> Turn | None:
        """Return a free-standing reply of the policy, as soon as there is a place; see `Completer.reply`."""
        async with self._pool.place():
            return await self._completer.reply(request)

    async def reflect(self, played: EpisodeRecord) -> Reflection:
        """Return the reflector's report on an episode."""
        return await self._reflector.reflect(played)

    def close(self) -> None:
        """End the background loop, if there is one; close all idle environments and the policy."""
        self._pool.close()
        self._policy.close()


def make_local_workers(
    config: Config, tokenizer: Any, policy: Policy, reflector: Reflector | None = None
) -> LocalWorkers:
    """Return workers of this process that play the run's environment, with its agent card.

    Raises:
        ConfigError: there is no such card, or it is wrong.
        DataError: the tokenizer's chat template cannot be used.
    """
    with refused_as_data(config.policy.path):
        return LocalWorkers(
            env_maker(config),
            load_card(config.agent),
            tokenizer,
            policy,
            max_concurrency=config.policy.max_concurrency,
            max_context=config.policy.max_context,
            reflector=reflector,
            agents=open_agents(config, tokenizer),
        )
