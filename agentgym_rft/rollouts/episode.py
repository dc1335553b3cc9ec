"""One episode: the only place where an environment meets a policy, and where their failures become data."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from agentgym_rft.agents.agent import ChatAgent, Prompt
from agentgym_rft.agents.parse import Parsed
from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import EnvError, PolicyError
from agentgym_rft.rollouts.seeds import derive_seed

T = TypeVar("T")
Step = tuple[str, float, bool, bool, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """What to play and under which limits."""

    task_id: str
    group_id: str
    episode_id: str
    seed: int
    temperature: float
    max_steps: int
    max_context: int
    stop_ids: tuple[int, ...]
    step_timeout_s: float | None = None
    invalid_penalty: float = 0.0  # taken off the reward of a turn whose action was invalid


async def run_episode(env: TextEnv, agent: ChatAgent, policy: Policy, spec: EpisodeSpec) -> Trajectory:
    """Play one episode to its end. Never raises for a failing environment or policy: that is its stop reason."""
    episode = _Episode(env, agent, policy, spec)
    error: dict[str, Any] | None = None
    try:
        stop = await episode.play()
    except TimeoutError as problem:
        stop, error = StopReason.TIMEOUT, _describe(problem, episode)
    except PolicyError as problem:
        stop, error = StopReason.POLICY_ERROR, _describe(problem, episode)
    except Exception as problem:  # the one boundary: an environment may raise anything
        stop, error = StopReason.ENV_ERROR, _describe(problem, episode)
    finally:
        policy.release(spec.episode_id)
    return episode.trajectory(stop, error)


def _describe(problem: BaseException, episode: _Episode) -> dict[str, Any]:
    return {"type": type(problem).__name__, "message": str(problem)[:500], "turn": len(episode.turns)}


class _Episode:
    """The state of one running episode."""

    def __init__(self, env: TextEnv, agent: ChatAgent, policy: Policy, spec: EpisodeSpec) -> None:
        self.env, self.agent, self.policy, self.spec = env, agent, policy, spec
        self.turns: list[Turn] = []
        self.reward = 0.0  # the environment's, without penalties
        self.penalty = 0.0
        self.info: dict[str, Any] = {}

    async def play(self) -> StopReason:
        spec = self.spec
        options = {"task_id": spec.task_id}
        observation, info = await self._call(lambda: self.env.reset(seed=spec.seed % 2**31, options=options))
        self._take(observation, info)
        for turn in range(spec.max_steps):
            prompt = self.agent.prompt()
            room = spec.max_context - len(prompt.row)
            if room < self.agent.card.action.max_tokens:
                return StopReason.TOKEN_LIMIT
            completion = await self.policy.sample(self._request(prompt, turn))
            _check_completion(completion)
            terminated, truncated = await self._step(prompt, completion)
            if terminated or self.info["won"]:
                return StopReason.SUCCESS if self.info["won"] else StopReason.FAILURE
            if truncated:
                break
        return StopReason.STEP_LIMIT

    def _request(self, prompt: Prompt, turn: int) -> SampleRequest:
        spec = self.spec
        return SampleRequest(
            cache_key=spec.episode_id,
            prompt_ids=prompt.row,
            max_new_tokens=self.agent.card.action.max_tokens,
            stop_ids=spec.stop_ids,
            temperature=spec.temperature,
            seed=derive_seed(spec.seed, turn),
        )

    async def _step(self, prompt: Prompt, completion: Completion) -> tuple[bool, bool]:
        """Act on the environment and record the turn. Returns `terminated, truncated`."""
        asked = self.agent.observation
        state_key = str(self.info.get("state_key", ""))
        text, parsed = self.agent.act(completion.ids)
        observation, reward, terminated, truncated, info = await self._outcome(parsed)
        invalid = _invalid_reason(parsed, info)
        penalty = self.spec.invalid_penalty if invalid else 0.0
        self.turns.append(
            Turn(
                context_ids=prompt.added,
                action_ids=completion.ids,
                logprobs=completion.logprobs,
                reward=reward - penalty,
                state_key=state_key,
                policy_version=completion.policy_version,
                restart=prompt.restart,
                info={
                    "observation": asked,
                    "text": text,
                    "action": parsed.action,
                    "invalid_action": invalid,
                },
            )
        )
        self.reward += reward
        self.penalty += penalty
        self._take(observation, info)
        return terminated, truncated

    async def _outcome(self, parsed: Parsed) -> Step:
        """What follows a reply: the environment's answer, or the agent's own feedback where there was no action."""
        if parsed.error is not None:
            return self.agent.invalid_feedback(parsed), 0.0, False, False, self.info
        step = await self._call(lambda: self.env.step(parsed.action))
        observation, reward, terminated, truncated, info = step
        if not math.isfinite(float(reward)):
            raise EnvError(f"The environment gave reward {reward}, expected a finite number.")
        return observation, float(reward), bool(terminated), bool(truncated), info

    async def _call(self, function: Callable[[], T]) -> T:
        """An environment call, in a thread with a deadline if there is one."""
        if self.spec.step_timeout_s is None:
            return function()
        return await asyncio.wait_for(asyncio.to_thread(function), self.spec.step_timeout_s)

    def _take(self, observation: str, info: Mapping[str, Any]) -> None:
        if not isinstance(observation, str):
            raise EnvError(f"The environment gave an observation of type {type(observation).__name__}, expected str.")
        self.info = {"won": False, "score": 0.0, **info}
        if not 0.0 <= float(self.info["score"]) <= 1.0:
            raise EnvError(f"The environment gave score {self.info['score']}, expected 0 to 1.")
        self.agent.observe(observation, info)

    def _rewards(self) -> dict[str, float]:
        return {"env": self.reward} | ({"invalid_action": -self.penalty} if self.spec.invalid_penalty else {})

    def trajectory(self, stop: StopReason, error: dict[str, Any] | None) -> Trajectory:
        spec = self.spec
        info: dict[str, Any] = {
            "won": bool(self.info.get("won", False)),
            "score": float(self.info.get("score", 0.0)),
            "task_type": str(self.info.get("task_type", "")),
            "last_observation": self.agent.observation if self.turns else "",
        }
        return Trajectory(
            task_id=spec.task_id,
            group_id=spec.group_id,
            episode_id=spec.episode_id,
            turns=tuple(self.turns),
            stop_reason=stop,
            rewards={} if stop.is_error else self._rewards(),
            info=info | ({"error": error} if error else {}),
        )


def _invalid_reason(parsed: Parsed, info: Mapping[str, Any]) -> str:
    """Why the action was invalid: the parser's reason, `refused` if the environment did not take it, else empty."""
    if parsed.error is not None:
        return parsed.error.value
    return "refused" if info.get("invalid_action") else ""


def _check_completion(completion: Completion) -> None:
    if not completion.ids or len(completion.ids) != len(completion.logprobs):
        raise PolicyError(
            f"The policy gave {len(completion.ids)} ids with {len(completion.logprobs)} log-probs, "
            "expected as many of each and at least one."
        )
    if not all(math.isfinite(lp) and lp <= 1e-6 for lp in completion.logprobs):
        raise PolicyError("The policy gave a log-prob that is not a finite number below zero.")
