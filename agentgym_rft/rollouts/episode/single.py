"""One episode: the only place where an environment meets a policy, and where their failures become data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentgym_rft.agents.agent import ChatAgent, Prompt
from agentgym_rft.agents.parse import Parsed
from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.episode.boundary import (
    Step,
    check_completion,
    checked_info,
    checked_step,
    guarded,
    outcome_info,
)
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork, Observation, go_back
from agentgym_rft.rollouts.seeds import derive_seed


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
    stop_invalid: bool = False  # an invalid action ends the episode as a failure
    stop_repeated: int = 0  # the same action so many times in a row does; 0: never
    record_snapshots: bool = False  # keep the environment's state before every turn, if it can give it
    record_remaining: bool = False  # ask the environment for the shortest completion before every turn
    players: Mapping[str, str] = field(default_factory=dict)  # agents that others play in this episode, untrained
    view: str = ""  # of several agents, the one whose trajectory is asked for; "": the turns of all
    reward_share: float = 0.0  # of the team's mean reward in each agent's
    reply_timeout_s: float | None = None  # deadline of one agent's reply, where there are several agents


async def run_episode(
    env: TextEnv, make_agent: Callable[[], ChatAgent], policy: Policy, spec: EpisodeSpec, start: Fork | None = None
) -> EpisodeRecord:
    """Play one episode to its end, from the beginning or from a fork of an earlier one.

    Never raises for a failing environment or policy: that is the trajectory's stop reason. Where a fork cannot be
    reached because the replay went another way, the error is `ReplayDiverged`.
    """
    episode = Episode(env, make_agent, policy, spec, start)
    try:
        stop, error = await guarded(episode.play, lambda: len(episode.turns))
    finally:
        policy.release(spec.episode_id)
    return episode.played(stop, error)


class Episode:
    """The state of one running episode.

    A guided retry has two agents: the policy answers the one that is shown the guidance; the other, which is fed the
    same observations and the same sampled ids, gives the context that the actions are later trained under. No text is
    tokenised again.
    """

    def __init__(
        self,
        env: TextEnv,
        make_agent: Callable[[], ChatAgent],
        policy: Policy,
        spec: EpisodeSpec,
        start: Fork | None = None,
    ) -> None:
        self.env = EnvCalls(env, spec.step_timeout_s)
        self.policy, self.spec, self.start = policy, spec, start
        self.agent = make_agent()
        self.unguided = make_agent() if start is not None and start.guidance else None
        self.turns: list[Turn] = []
        self.unguided_turns: list[Turn] = []
        self.observations: list[Observation] = []
        self.snapshots: list[bytes] = []
        self.remaining: list[int | None] = []
        self.reset_seed = spec.seed % 2**31 if start is None else start.parent.reset_seed
        self.reward = 0.0  # the environment's, without penalties
        self.penalty = 0.0
        self.info: dict[str, Any] = {}
        self.stopped: tuple[StopReason, str] | None = None

    async def play(self) -> StopReason:
        spec = self.spec
        if self.start is None:
            self._take(*await self.env.reset(self.reset_seed, spec.task_id))
        else:
            await self.resume(self.start)
        stop = await self._take_turns()
        if spec.record_remaining:
            self.remaining.append(await self.env.remaining())
        return stop

    async def _take_turns(self) -> StopReason:
        while len(self.turns) < self.spec.max_steps:
            prompt = self.agent.prompt()
            room = self.spec.max_context - len(prompt.row)
            if room < self.agent.card.action.max_tokens:
                return StopReason.TOKEN_LIMIT
            await self._record()
            completion = await self.policy.sample(self._request(prompt))
            check_completion(completion)
            terminated, truncated = await self._step(prompt, completion)
            if terminated or self.info["won"]:
                return StopReason.SUCCESS if self.info["won"] else StopReason.FAILURE
            if self.stopped is not None:
                return self.stopped[0]
            if truncated:
                break
        return StopReason.STEP_LIMIT

    async def resume(self, start: Fork) -> None:
        """Go back to a fork: its turns in the agents' memory, its state in the environment, its guidance shown.

        Raises `ReplayDiverged` if the environment came to another state.
        """
        parent, turn = start.parent, start.turn
        await go_back(self.env, start)
        for moment, past in zip(parent.observations, parent.trajectory.turns[:turn], strict=False):
            self._take(moment.observation, moment.info)
            for agent in self._agents():
                agent.prompt()
                agent.act(past.action_ids)
            invalid = self.spec.invalid_penalty if past.info["invalid_action"] else 0.0
            self.reward += past.reward + invalid
            self.penalty += invalid
        self._take(parent.observations[turn].observation, parent.observations[turn].info)
        self.turns = list(parent.trajectory.turns[:turn])
        self.unguided_turns = list(self.turns)
        self.snapshots = list(parent.snapshots[:turn])
        self.remaining = list(parent.remaining[:turn])
        if start.guidance:
            self.inject(start.guidance)

    def inject(self, guidance: str) -> None:
        """Show the policy a text from the coming turn on. It is context, never trained."""
        self.agent.inject(guidance)

    def stop(self, reason: StopReason, rule: str) -> None:
        """End the episode after this turn; `rule` says why in the trajectory's `info["stopped"]`."""
        self.stopped = (reason, rule)

    async def _record(self) -> None:
        """What a fork before the coming turn needs."""
        if self.spec.record_snapshots and self.env.env.can_snapshot:
            self.snapshots.append(await self.env.snapshot())
        if self.spec.record_remaining:
            self.remaining.append(await self.env.remaining())

    def _request(self, prompt: Prompt) -> SampleRequest:
        spec = self.spec
        return SampleRequest(
            cache_key=spec.episode_id,
            prompt_ids=prompt.row,
            max_new_tokens=self.agent.card.action.max_tokens,
            stop_ids=spec.stop_ids,
            temperature=spec.temperature,
            seed=derive_seed(spec.seed, len(self.turns)),
        )

    async def _step(self, prompt: Prompt, completion: Completion) -> tuple[bool, bool]:
        """Act on the environment and record the turn. Returns `terminated, truncated`."""
        asked = self.agent.observation
        state_key = str(self.info.get("state_key", ""))
        text, parsed = self.agent.act(completion.ids)
        observation, reward, terminated, truncated, info = await self._outcome(parsed)
        invalid = invalid_reason(parsed, info)
        penalty = self.spec.invalid_penalty if invalid else 0.0
        about = {"observation": asked, "text": text, "action": parsed.action, "invalid_action": invalid}
        turn = sampled_turn(prompt, completion, reward - penalty, state_key, about)
        self.turns.append(turn)
        if self.unguided is not None:
            shown = self.unguided.prompt()
            self.unguided.act(completion.ids)
            self.unguided_turns.append(replace(turn, context_ids=shown.added, restart=shown.restart, off_context=True))
        self.reward += reward
        self.penalty += penalty
        self._take(observation, info)
        self._apply_rules()
        return terminated, truncated

    def _apply_rules(self) -> None:
        rule = broken_rule(self.turns, self.spec)
        if rule:
            self.stop(StopReason.FAILURE, rule)

    async def _outcome(self, parsed: Parsed) -> Step:
        """What follows a reply: the environment's answer, or the agent's own feedback where there was no action."""
        if parsed.error is not None:
            return self.agent.invalid_feedback(parsed), 0.0, False, False, self.info
        return checked_step(await self.env.step(parsed.action))

    def _agents(self) -> list[ChatAgent]:
        return [self.agent] if self.unguided is None else [self.agent, self.unguided]

    def _take(self, observation: str, info: Mapping[str, Any]) -> None:
        self.info = checked_info(observation, info)
        self.observations.append(Observation(observation, info))
        for agent in self._agents():
            agent.observe(observation, info)

    def played(self, stop: StopReason, error: dict[str, Any] | None) -> EpisodeRecord:
        """The episode as it was played."""
        unguided = self._trajectory(self.unguided_turns, stop, error) if self.unguided is not None else None
        return EpisodeRecord(
            self._trajectory(self.turns, stop, error),
            tuple(self.observations),
            self.spec.seed,
            self.reset_seed,
            tuple(self.snapshots),
            tuple(self.remaining),
            unguided,
        )

    def _trajectory(self, turns: Sequence[Turn], stop: StopReason, error: dict[str, Any] | None) -> Trajectory:
        spec = self.spec
        last_observation = self.agent.observation if self.turns else ""
        info = outcome_info(self.info, last_observation, spec.max_steps, self.reset_seed)
        if self.stopped is not None:
            info["stopped"] = self.stopped[1]
        return Trajectory(
            task_id=spec.task_id,
            group_id=spec.group_id,
            episode_id=spec.episode_id,
            turns=tuple(turns),
            stop_reason=stop,
            parent_id=None if self.start is None else self.start.parent.trajectory.episode_id,
            fork_turn=None if self.start is None else self.start.turn,
            rewards={} if stop.is_error else self._rewards(),
            info=info | ({"error": error} if error else {}),
        )

    def _rewards(self) -> dict[str, float]:
        return {"env": self.reward} | ({"invalid_action": -self.penalty} if self.spec.invalid_penalty else {})


def sampled_turn(
    prompt: Prompt, completion: Completion, reward: float, state_key: str, about: Mapping[str, Any]
) -> Turn:
    """The turn of a completion, with its tokens as they were sampled."""
    return Turn(
        context_ids=prompt.added,
        action_ids=completion.ids,
        logprobs=completion.logprobs,
        reward=reward,
        state_key=state_key,
        policy_version=completion.policy_version,
        last_version=completion.last_version,
        restart=prompt.restart,
        info=about,
    )


def broken_rule(turns: Sequence[Turn], spec: EpisodeSpec) -> str:
    """The rule of the run that an agent's last turn broke, which ends its episode; "" if none."""
    if spec.stop_invalid and turns[-1].info["invalid_action"]:
        return "invalid action"
    last = [turn.info["action"] for turn in turns[-spec.stop_repeated :]] if spec.stop_repeated else []
    return "repeated action" if last and len(last) == spec.stop_repeated and len(set(last)) == 1 else ""


def invalid_reason(parsed: Parsed, info: Mapping[str, Any]) -> str:
    """Why the action was invalid: the parser's reason, `refused` if the environment did not take it, else empty."""
    if parsed.error is not None:
        return parsed.error.value
    return "refused" if info.get("invalid_action") else ""
