"""Players without tokens, for evaluation: the environment's own scripts, random play, and chat endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from agentgym_rft.agents.agent import TextAgent, invalid_feedback
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.errors import AgentGymError, ConfigError, EnvTimeoutError, PolicyError
from agentgym_rft.rollouts.episode.boundary import checked_info, checked_step, guarded, outcome_info
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.episode.forks import EpisodeRecord
from agentgym_rft.rollouts.episode.single import EpisodeSpec
from agentgym_rft.rollouts.reflection.endpoint import ChatEndpoint
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.env_pool import EnvPool
from agentgym_rft.rollouts.workers.event_loop import Work

T = TypeVar("T")
ENDPOINT = "openai:"


@dataclass(frozen=True, slots=True)
class Action:
    """What a player does in one turn.

    `feedback` is the observation that answers a `text` without an action; `error` then says why there is none. Token
    counts are those that the player knows of.
    """

    action: str
    text: str = ""
    error: str = ""
    feedback: str = ""
    sampled_tokens: int | None = None
    context_tokens: int | None = None


class Player(Protocol):
    """Plays one episode."""

    async def act(self, observation: str, info: Mapping[str, Any]) -> Action:
        """The answer to an observation. Raises `PolicyError` where there is none."""
        ...


# Made when the episode has begun, from the environment in that state, the first observation and the episode.
MakePlayer = Callable[[EnvCalls, str, EpisodeSpec], Awaitable[Player]]


class TextWorkers:
    """Plays episodes with players; takes the place of `LocalWorkers` in an evaluation."""

    max_context = 0
    stop_ids: tuple[int, ...] = ()

    def __init__(self, make_env: Callable[[], TextEnv], make_player: MakePlayer, *, max_concurrency: int) -> None:
        self._pool = EnvPool(make_env, max_concurrency)
        self._make_player = make_player

    def run(self, work: Work[T]) -> T:
        """What a coroutine that plays episodes gives."""
        return self._pool.run(work)

    async def play(self, spec: EpisodeSpec) -> Trajectory:
        """One episode, as soon as there is a place for it. Its turns have no tokens."""

        async def episode(env: TextEnv) -> EpisodeRecord:
            playing = TextEpisode(env, self._make_player, spec)
            stop, error = await guarded(playing.play, lambda: len(playing.turns))
            return EpisodeRecord(playing.trajectory(stop, error), (), spec.seed, playing.reset_seed)

        return (await self._pool.play(episode, spec.step_timeout_s)).trajectory

    def close(self) -> None:
        """Close all idle environments."""
        self._pool.close()


class TextEpisode:
    """The state of one running episode."""

    def __init__(self, env: TextEnv, make_player: MakePlayer, spec: EpisodeSpec) -> None:
        self.env, self.spec = EnvCalls(env, spec.step_timeout_s), spec
        self._make_player = make_player
        self.reset_seed = spec.seed % 2**31
        self.turns: list[Turn] = []
        self._observation = ""
        self._info: dict[str, Any] = {}

    async def play(self) -> StopReason:
        spec = self.spec
        self._take(*await self.env.reset(self.reset_seed, spec.task_id))
        player = await _spoken_for(self._make_player(self.env, self._observation, spec))
        while len(self.turns) < spec.max_steps:
            action = await player.act(self._observation, self._info)
            terminated, truncated = await self._step(action)
            if terminated or self._info["won"]:
                return StopReason.SUCCESS if self._info["won"] else StopReason.FAILURE
            if truncated:
                break
        return StopReason.STEP_LIMIT

    async def _step(self, action: Action) -> tuple[bool, bool]:
        """Act on the environment and record the turn. Returns `terminated, truncated`."""
        asked, state_key = self._observation, str(self._info.get("state_key", ""))
        reward, terminated, truncated = 0.0, False, False
        if action.error:
            self._take(action.feedback, self._info)
        else:
            step = checked_step(await self.env.step(action.action))
            observation, reward, terminated, truncated, info = step
            self._take(observation, info)
        invalid = action.error or ("refused" if self._info.get("invalid_action") else "")
        about: dict[str, Any] = {"observation": asked, "text": action.text or action.action, "action": action.action}
        tokens = {"sampled_tokens": action.sampled_tokens, "context_tokens": action.context_tokens}
        about |= {"invalid_action": invalid, **{name: count for name, count in tokens.items() if count is not None}}
        self.turns.append(Turn((), (), (), reward=reward, state_key=state_key, trainable=False, info=about))
        return terminated, truncated

    def _take(self, observation: str, info: Mapping[str, Any]) -> None:
        self._info = checked_info(observation, info)
        self._observation = observation

    def trajectory(self, stop: StopReason, error: dict[str, Any] | None) -> Trajectory:
        """The episode as it was played."""
        spec = self.spec
        last_observation = self._observation if self.turns else ""
        info = outcome_info(self._info, last_observation, spec.max_steps, self.reset_seed)
        return Trajectory(
            task_id=spec.task_id,
            group_id=spec.group_id,
            episode_id=spec.episode_id,
            turns=tuple(self.turns),
            stop_reason=stop,
            rewards={} if stop.is_error else {"env": float(sum(turn.reward for turn in self.turns))},
            info=info | ({"error": error} if error else {}),
        )


async def _spoken_for(script: Awaitable[T]) -> T:
    """What a script gives. Its own refusals are the policy's errors, not the environment's."""
    try:
        return await script
    except EnvTimeoutError:
        raise
    except AgentGymError as error:
        raise PolicyError(str(error)) from error


class ScriptedPlayer:
    """A script of the environment, asked under the deadline of its steps."""

    def __init__(self, env: EnvCalls, script: Expert) -> None:
        self._env = env
        self._script = script

    async def act(self, observation: str, info: Mapping[str, Any]) -> Action:
        return Action(await _spoken_for(self._env.act(self._script, observation)))


class AnyAdmissible:
    """Picks among the actions that `info` lists, each as likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    async def act(self, observation: str, info: Mapping[str, Any]) -> Action:
        actions: Sequence[str] = info.get("admissible_actions") or ()
        if not actions:
            raise PolicyError(
                "The environment lists no admissible actions and has no random player of its own, so the policy "
                "'random' cannot play it. Give it a method random_player, or info['admissible_actions']."
            )
        return Action(actions[int(self._rng.integers(len(actions)))])


class EndpointPlayer:
    """A model behind a chat endpoint, prompted as the agent card says."""

    def __init__(self, endpoint: ChatEndpoint, card: AgentCard, spec: EpisodeSpec) -> None:
        self._endpoint = endpoint
        self._agent = TextAgent(card)
        self._spec = spec
        self._num_asked = 0

    async def act(self, observation: str, info: Mapping[str, Any]) -> Action:
        card = self._agent.card
        answer = await self._endpoint.ask(
            self._agent.messages(observation, info),
            max_tokens=card.action.max_tokens,
            temperature=self._spec.temperature,
            seed=derive_seed(self._spec.seed, self._num_asked),
        )
        self._num_asked += 1
        parsed = self._agent.act(answer.text)
        action = Action(parsed.action, answer.text, "", "", answer.reply_tokens, answer.prompt_tokens)
        if parsed.error is None:
            return action
        return replace(action, error=parsed.error.value, feedback=invalid_feedback(card, parsed))


def scripted(kind: str) -> MakePlayer:
    """Makes the players of `oracle`, `expert` or `random`."""

    async def make(env: EnvCalls, observation: str, spec: EpisodeSpec) -> Player:
        rng = np.random.default_rng(derive_seed(spec.seed, "player"))
        if kind == "oracle":
            return ScriptedPlayer(env, await env.oracle())
        if kind == "expert":
            return ScriptedPlayer(env, await env.expert(observation, rng))
        own = await env.random_player(rng)
        return AnyAdmissible(rng) if own is None else ScriptedPlayer(env, own)

    return make


def check_script(kind: str, env: TextEnv) -> None:
    """Raise `ConfigError` for an environment without the script."""
    has = {"oracle": type(env).oracle is not TextEnv.oracle, "expert": type(env).expert is not TextEnv.expert}
    if not has.get(kind, True):
        raise ConfigError(f"{type(env).__name__} has no {kind}, so the policy '{kind}' cannot play it.")


def at_endpoint(policy: str, card: AgentCard) -> MakePlayer:
    """Makes the players of `openai:MODEL@URL`. Raises `ConfigError` for a name that is not of this form."""
    model, _, url = policy.removeprefix(ENDPOINT).partition("@")
    endpoint = ChatEndpoint(model, url, retries=3)

    async def make(env: EnvCalls, observation: str, spec: EpisodeSpec) -> Player:
        return EndpointPlayer(endpoint, card, spec)

    return make
