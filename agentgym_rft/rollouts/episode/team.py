"""One episode of several agents: whoever's turn it is answers, and each has a conversation of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from agentgym_rft.agents.agent import ChatAgent, Prompt
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import EnvError
from agentgym_rft.rollouts.episode.boundary import check_completion, checked_info, checked_step, guarded, outcome_info
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork, Observation, go_back, own_turns
from agentgym_rft.rollouts.episode.part import AgentState
from agentgym_rft.rollouts.episode.single import EpisodeSpec, broken_rule, invalid_reason, sampled_turn
from agentgym_rft.rollouts.seats import Agents, with_players
from agentgym_rft.rollouts.seeds import derive_seed

TEAM = "team"  # agent_id of the trajectory that has the turns of all


async def run_team_episode(
    env: TextEnv, agents: Agents, policy: Policy, spec: EpisodeSpec, start: Fork | None = None
) -> EpisodeRecord:
    """Play one episode to its end, from the beginning or from a fork of an earlier one.

    Never raises for a failing environment, script or policy: that is a stop reason. What one agent's policy or script
    breaks is that agent's error; the episodes of those who still played are `abandoned`, and an agent that was out
    before keeps its outcome. What the environment breaks is everybody's error.
    """
    episode = TeamEpisode(env, with_players(agents, spec.players), policy, spec, start)
    try:
        stop, error = await guarded(episode.play, lambda: len(episode.turns))
    finally:
        for part in episode.parts.values():
            policy.release(part.cache_key)
    return episode.played(stop, error)


class TeamEpisode:
    """The state of one running episode. Its environment shows one turn after the other, see `TurnsEnv`."""

    def __init__(
        self, env: TextEnv, agents: Agents, policy: Policy, spec: EpisodeSpec, start: Fork | None = None
    ) -> None:
        self.env = EnvCalls(env, spec.step_timeout_s)
        self.policy, self.spec, self.start = policy, spec, start
        self.parts = {seat.agent: AgentState(seat, spec.episode_id) for seat in agents}
        self.reset_seed = spec.seed % 2**31 if start is None else start.parent.reset_seed
        self.turns: list[tuple[str, int]] = []  # who took it, and which of its own it was
        self.observations: list[Observation] = []
        self.snapshots: list[bytes] = []
        self.remaining: list[int | None] = []
        self.info: dict[str, Any] = {}
        self.observation = ""
        self.failed_agent: str | None = None  # whose policy or script is being asked
        self.stopped = ""

    async def play(self) -> StopReason:
        if self.start is None:
            self._take(*await self.env.reset(self.reset_seed, self.spec.task_id))
        else:
            await self._resume(self.start)
        stop = await self._take_turns()
        if self.spec.record_remaining:
            self.remaining.append(await self.env.remaining())
        return stop

    async def _take_turns(self) -> StopReason:
        while len(self.turns) < self.spec.max_steps:
            part = self._part(self.info["agent"])
            part.observe(self.observation, self.info)
            await self._record()
            is_over = await self._turn(part)
            if is_over is not None:
                return is_over
        return StopReason.STEP_LIMIT

    async def _turn(self, part: AgentState) -> StopReason | None:
        """One agent's turn; why the episode is over after it, or None."""
        action = await self._replacement(part)
        if action is not None or part.agent is None:
            turn = self._unsampled(part, await self._scripted(part) if action is None else action)
        else:
            sampled = await self._sampled(part, part.agent)
            if sampled is None:
                return StopReason.TOKEN_LIMIT
            turn = sampled
        _, _, terminated, truncated, info = step = checked_step(await self.env.step(str(turn.info["action"])))
        reason = str(turn.info["invalid_action"]) or ("refused" if info.get("invalid_action") else "")
        self._add(part, replace(turn, info={**turn.info, "invalid_action": reason}), info["rewards"])
        self._take(step[0], info)
        if terminated:
            return StopReason.SUCCESS if self.info["won"] else StopReason.FAILURE
        self.stopped = broken_rule(part.turns, self.spec)
        if self.stopped:
            return StopReason.FAILURE
        return StopReason.STEP_LIMIT if truncated else None

    async def _replacement(self, part: AgentState) -> str | None:
        """What the fork puts in the place of this turn, if it does."""
        start = self.start
        if start is None or len(self.turns) != start.turn:
            return None
        return await self.env.noop(part.seat.agent) if start.is_noop else start.action

    async def _sampled(self, part: AgentState, agent: ChatAgent) -> Turn | None:
        """What the policy does; None where its context is full."""
        prompt = agent.prompt()
        if self.spec.max_context - len(prompt.row) < part.seat.card.action.max_tokens:
            return None
        with self._asking(part):
            completion = await asyncio.wait_for(
                self.policy.sample(self._request(part, prompt)), self.spec.reply_timeout_s
            )
            check_completion(completion)
        text, parsed = part.act(agent, completion.ids)
        about = self._about(part, text, parsed.action, invalid_reason(parsed, {}))
        turn = sampled_turn(prompt, completion, 0.0, str(self.info.get("state_key", "")), about)
        return turn if part.seat.is_trained else replace(turn, trainable=False)

    def _unsampled(self, part: AgentState, action: str) -> Turn:
        """The turn of a script, or of an action that was put in the place of a sampled one."""
        about = self._about(part, action, action, "")
        state_key = str(self.info.get("state_key", ""))
        if part.agent is None:
            return Turn((), (), (), state_key=state_key, trainable=False, info=about)
        prompt = part.agent.prompt()
        ids = part.seat.chat.reply(format_reply(action, "", part.seat.card.action))
        part.act(part.agent, ids)
        completion = Completion(tuple(ids), (0.0,) * len(ids), "stop", self.policy.version)
        return replace(sampled_turn(prompt, completion, 0.0, state_key, about), trainable=False)

    def _about(self, part: AgentState, text: str, action: str, invalid: str) -> dict[str, Any]:
        return {
            "observation": part.asked,
            "text": text,
            "action": action,
            "invalid_action": invalid,
            "agent": part.seat.agent,
        }

    async def _scripted(self, part: AgentState) -> str:
        with self._asking(part):
            if part.script is None:
                rng = np.random.default_rng(derive_seed(self.spec.seed, "player", part.seat.agent))
                seat = part.seat
                part.script = await self.env.seat_player(seat.player, seat.agent, self.observation, rng)
            if part.script is not None:
                return await self.env.act(part.script, self.observation)
            actions: Sequence[str] = self.info.get("admissible_actions") or ()
            if not actions:
                raise EnvError(f"The environment gives '{part.seat.agent}' neither actions nor a random player.")
            return actions[derive_seed(self.spec.seed, part.seat.agent, len(self.turns)) % len(actions)]

    def _request(self, part: AgentState, prompt: Prompt) -> SampleRequest:
        spec = self.spec
        return SampleRequest(
            cache_key=part.cache_key,
            prompt_ids=prompt.row,
            max_new_tokens=part.seat.card.action.max_tokens,
            stop_ids=part.seat.chat.stop_ids,
            temperature=spec.temperature,
            seed=derive_seed(spec.seed, len(self.turns)),
            policy=part.seat.player,
        )

    @contextmanager
    def _asking(self, part: AgentState) -> Iterator[None]:
        """What is raised inside is this agent's fault."""
        self.failed_agent = part.seat.agent
        yield
        self.failed_agent = None

    def _add(self, part: AgentState, turn: Turn, rewards: Mapping[str, float]) -> None:
        """Record a turn, and give each agent its own reward for it and its share of the team's."""
        part.add(turn)
        self.turns.append((part.seat.agent, len(part.turns) - 1))
        if turn.info["invalid_action"]:
            part.reward("invalid_action", -self.spec.invalid_penalty)
        if any(rewards.values()):
            self._pay(rewards)

    def _pay(self, rewards: Mapping[str, float]) -> None:
        share = self.spec.reward_share
        team = sum(rewards.values()) / len(self.parts)
        for agent, part in self.parts.items():
            part.reward("env", (1.0 - share) * rewards.get(agent, 0.0))
            part.reward("team", share * team)

    async def _record(self) -> None:
        """What a fork before the coming turn needs."""
        if self.spec.record_snapshots and self.env.env.can_snapshot:
            self.snapshots.append(await self.env.snapshot())
        if self.spec.record_remaining:
            self.remaining.append(await self.env.remaining())

    def _take(self, observation: str, info: Mapping[str, Any]) -> None:
        """The environment's answer: for whoever is next, and about everybody."""
        self.info, self.observation = checked_info(observation, info), observation
        self.observations.append(Observation(observation, info))
        for agent, standing in self.info["outcomes"].items():
            part = self._part(agent)
            if standing["is_over"] and part.outcome is None:
                cut = StopReason.STEP_LIMIT if standing["is_truncated"] else StopReason.FAILURE
                part.outcome = StopReason.SUCCESS if standing["won"] else cut, dict(standing)

    def _part(self, agent: str) -> AgentState:
        if agent not in self.parts:
            raise EnvError(f"The environment names the agent {agent!r}; its seats are {', '.join(self.parts)}.")
        return self.parts[agent]

    async def _resume(self, start: Fork) -> None:
        """Go back to a fork. Raises `ReplayDiverged` if the environment came to another state."""
        parent, turn = start.parent, start.turn
        await go_back(self.env, start)
        guided = self._part(start.agent or str(parent.observations[turn].info["agent"]))
        if start.guidance and guided.agent is not None:
            guided.split()
        for number, past in enumerate(parent.trajectory.turns[:turn]):
            self._take(parent.observations[number].observation, parent.observations[number].info)
            self._take_again(past, parent.observations[number + 1].info["rewards"])
        self._take(parent.observations[turn].observation, parent.observations[turn].info)
        self.snapshots, self.remaining = list(parent.snapshots[:turn]), list(parent.remaining[:turn])
        if start.guidance and guided.agent is not None:
            guided.agent.inject(start.guidance)

    def _take_again(self, past: Turn, rewards: Mapping[str, float]) -> None:
        """A turn of the parent, as it was sampled, and what it was rewarded with."""
        part = self._part(str(past.info["agent"]))
        part.observe(self.observation, self.info)
        if part.agent is not None:
            part.agent.prompt()
            part.act(part.agent, past.action_ids)
        self._add(part, replace(past, reward=0.0), rewards)

    def played(self, stop: StopReason, error: dict[str, Any] | None) -> EpisodeRecord:
        """The episode as it was played: everybody's turns in order, and the part of each agent."""
        if stop is StopReason.ENV_ERROR and self.failed_agent is not None:
            stop = StopReason.POLICY_ERROR
        parts = tuple(self._trajectory(part, stop, error) for part in self.parts.values())
        by_agent = {part.agent_id: part for part in parts}
        turns = tuple(by_agent[agent].turns[number] for agent, number in self.turns)
        shown = {**self.info, "won": self.info.get("won", False), "score": self.info.get("score", 0.0)}
        whole = self._made(TEAM, turns, stop, shown, self.observation if turns else "", error)
        if not stop.is_error:
            env = sum(part.rewards.get("env", 0.0) + part.rewards.get("team", 0.0) for part in parts) / len(parts)
            seats = {part.agent_id: _result(part) for part in parts}
            whole = replace(whole, rewards={"env": env}, info={**whole.info, "seats": seats})
        return EpisodeRecord(
            whole,
            tuple(self.observations),
            self.spec.seed,
            self.reset_seed,
            tuple(self.snapshots),
            tuple(self.remaining),
            self._unguided(by_agent),
            parts=parts,
        )

    def _unguided(self, parts: Mapping[str, Trajectory]) -> Trajectory | None:
        """The part of the guided agent, if there is one, as it is trained without the guidance."""
        guided = next((part for part in self.parts.values() if part.unguided is not None), None)
        if guided is None or self.start is None:
            return None
        agent = guided.seat.agent
        turns = guided.unguided_turns(own_turns(self.start.parent.trajectory.turns[: self.start.turn], agent))
        return replace(parts[agent], turns=turns)

    def _trajectory(self, part: AgentState, stop: StopReason, error: dict[str, Any] | None) -> Trajectory:
        """One agent's part of the episode."""
        outcome = part.outcome
        standing = self.info.get("outcomes", {}).get(part.seat.agent, {})
        if outcome is not None:
            stop, standing = outcome
            error = None
        elif stop.is_error and self.failed_agent not in (None, part.seat.agent):
            stop = StopReason.ABANDONED
            error = {**(error or {}), "type": "Abandoned", "message": f"'{self.failed_agent}' broke the episode."}
        shown = {**self.info, "won": standing.get("won", False), "score": standing.get("score", 0.0)}
        last = str(standing.get("final") or "") or part.asked
        made = self._made(part.seat.agent, tuple(part.turns), stop, shown, last if part.turns else "", error)
        info = {"role": part.seat.role, "player": part.seat.player, "is_trained": part.seat.is_trained}
        return replace(made, rewards={} if stop.is_error else {"env": 0.0, **part.rewards}, info={**made.info, **info})

    def _made(
        self,
        agent: str,
        turns: tuple[Turn, ...],
        stop: StopReason,
        shown: Mapping[str, Any],
        last: str,
        error: dict[str, Any] | None,
    ) -> Trajectory:
        spec = self.spec
        info = outcome_info(shown, last, spec.max_steps, self.reset_seed)
        info |= ({"stopped": self.stopped} if self.stopped else {}) | ({"error": error} if error else {})
        return Trajectory(
            task_id=spec.task_id,
            group_id=spec.group_id,
            episode_id=spec.episode_id,
            turns=turns,
            stop_reason=stop,
            agent_id=agent,
            parent_id=None if self.start is None else self.start.parent.trajectory.episode_id,
            fork_turn=None if self.start is None else self.start.turn,
            info=info,
        )


def _result(part: Trajectory) -> dict[str, Any]:
    """What an evaluation tells about one agent's part."""
    told = {key: part.info[key] for key in ("role", "player", "won", "score")}
    return {**told, "return": float(sum(part.rewards.values())), "turns": len(part.turns)}
