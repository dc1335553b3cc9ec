"""One episode: the only place where an environment meets policies, and where their failures become data."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentgym_rft.agents.agent import ChatAgent, Prompt
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.agents.policies.base import Completion, Policy, SampleRequest
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.values import as_score
from agentgym_rft.errors import EnvError
from agentgym_rft.rollouts.episode.boundary import check_completion, checked_info, checked_step, guarded, is_stepped
from agentgym_rft.rollouts.episode.ending import Ending
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Fork, Observation, go_back, own_turns
from agentgym_rft.rollouts.episode.players import MakePlayer, Reply, scripted
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.episode.state import AgentState
from agentgym_rft.rollouts.seats import Agents, with_players
from agentgym_rft.rollouts.seeds import derive_seed


async def run_episode(
    env: TextEnv,
    agents: Agents,
    policy: Policy,
    spec: EpisodeSpec,
    start: Fork | None = None,
    *,
    make_player: MakePlayer | None = None,
) -> EpisodeRecord:
    """Play one episode of one or more agents to its end, from the beginning or from a fork of an earlier one.

    Never raises for a failing environment, script or policy: that is a stop reason. What one agent's policy or script
    breaks is that agent's error; the others who still played are `abandoned`, and an agent that was out before keeps
    its outcome. What the environment breaks is everybody's error. Where a fork cannot be reached because the replay
    went another way, the error is `ReplayDiverged`.

    Args:
        make_player: makes players without tokens, which play instead of the policy and of scripts.
    """
    episode = Episode(env, agents, policy, spec, start, make_player)
    try:
        stop, error = await guarded(episode.play, lambda: len(episode.turns))
    finally:
        for state in episode.states.values():
            policy.release(state.cache_key)
    return episode.record(stop, error)


class Episode:
    """The state of one running episode.

    The environment gives one stream of turns, see `TurnsEnv`: `info` says whose turn it is, what each agent was
    rewarded with and how each stands. An environment that does not name its agent (`AgentSpec.agent` is "") has this
    one alone: every turn is its own, the step's reward too, and the episode's outcome is its outcome.
    """

    def __init__(
        self,
        env: TextEnv,
        agents: Agents,
        policy: Policy,
        spec: EpisodeSpec,
        start: Fork | None = None,
        make_player: MakePlayer | None = None,
    ) -> None:
        self.env = EnvCalls(env, spec.step_timeout_s)
        self.policy, self.spec, self.start, self.make_player = policy, spec, start, make_player
        self.states = {
            each.agent: AgentState(each, spec, has_tokens=make_player is None and not each.is_scripted)
            for each in with_players(agents, spec.players)
        }
        self.only = self.states.get("")  # the agent that the environment does not name
        self.reset_seed = spec.seed % 2**31 if start is None else start.parent.reset_seed
        self.records = spec.record_snapshots or spec.record_remaining
        self.turns: list[AgentState] = []  # who took it
        self.observations: list[Observation] = []
        self.snapshots: list[bytes] = []
        self.remaining: list[int | None] = []
        self.info: dict[str, Any] = {}
        self.observation = ""
        self.failed: AgentState | None = None  # whose policy or script is being asked
        self.needed_tokens: tuple[int, int] | None = None  # of a prompt and an action for which there was no room
        self.stopped = ""  # the rule of the run that ended it

    async def play(self) -> StopReason:
        """Play to the end and return why it ended."""
        if self.start is None:
            self._take(Observation(*await self.env.reset(self.reset_seed, self.spec.task_id)))
        else:
            await self._resume(self.start)
        stop = await self._take_turns()
        if self.spec.record_remaining:
            self.remaining.append(await self.env.remaining())
        return stop

    async def _take_turns(self) -> StopReason:
        while len(self.turns) < self.spec.max_steps:
            state = self.only or self._next()
            reply = await self._reply(state)
            if reply is None:
                return StopReason.TOKEN_LIMIT
            stop = await self._step(state, reply)
            if stop is not None:
                return stop
        return StopReason.STEP_LIMIT

    def _next(self) -> AgentState:
        """Return the named agent whose turn it is; it has then observed what it is to answer."""
        state = self._state(self.info["agent"])
        state.observe(self.observation, self.info)
        return state

    def _state(self, agent: str) -> AgentState:
        if agent not in self.states:
            raise EnvError(f"The environment names the agent {agent!r}; its agents are {', '.join(self.states)}.")
        return self.states[agent]

    async def _reply(self, state: AgentState) -> Reply | None:
        """Return what an agent does: what its policy samples, its player says or the fork tells; None: no room."""
        chat_agent, action = state.chat_agent, None
        if self.start is not None and len(self.turns) == self.start.turn:
            action = await self.env.noop(state.name) if self.start.is_noop else self.start.action
        if chat_agent is None:
            await self._record()
            return await self._played(state) if action is None else Reply(action, action)
        prompt = chat_agent.prompt()
        needed = (len(prompt.row), state.spec.card.action.max_tokens)
        if action is None and sum(needed) > self.spec.max_context:
            self.needed_tokens = needed
            return None
        if self.records:
            await self._record()
        if action is None:
            return await self._sampled(state, chat_agent, prompt)
        return self._written(state, chat_agent, prompt, action)

    async def _record(self) -> None:
        """Keep what a fork before the coming turn needs."""
        if self.spec.record_snapshots and self.env.env.can_snapshot:
            self.snapshots.append(await self.env.snapshot())
        if self.spec.record_remaining:
            self.remaining.append(await self.env.remaining())

    async def _sampled(self, state: AgentState, chat_agent: ChatAgent, prompt: Prompt) -> Reply:
        """Return what the policy does."""
        self.failed = state
        sampling, timeout_s = self.policy.sample(self._request(state, prompt)), self.spec.reply_timeout_s
        completion = await (sampling if timeout_s is None else asyncio.wait_for(sampling, timeout_s))
        check_completion(completion)
        self.failed = None
        state.note_reply(completion.ids)
        text, parsed = chat_agent.act(completion.ids)
        error = "" if parsed.error is None else parsed.error.value
        feedback = chat_agent.invalid_feedback(parsed) if error else ""
        return Reply(parsed.action, text, error, feedback, prompt, completion, state.spec.is_trained)

    def _request(self, state: AgentState, prompt: Prompt) -> SampleRequest:
        agent, spec = state.spec, self.spec
        return SampleRequest(
            state.cache_key,
            prompt.row,
            agent.card.action.max_tokens,
            agent.chat.stop_ids,
            spec.temperature,
            derive_seed(spec.seed, len(self.turns)),
            agent.player,
        )

    async def _played(self, state: AgentState) -> Reply:
        """Return what a player without tokens does."""
        self.failed = state
        if state.player is None:
            make = self.make_player or scripted(state.spec.player, state.name)
            state.player = await make(self.env, self.observation, self.spec)
        reply = await state.player.act(self.observation, self.info, len(self.turns))
        self.failed = None
        return reply

    def _written(self, state: AgentState, chat_agent: ChatAgent, prompt: Prompt, action: str) -> Reply:
        """Return an action in the words of the agent's card, as if it had been sampled; it is not trained."""
        ids = state.spec.chat.reply(format_reply(action, "", state.spec.card.action))
        state.note_reply(ids)
        chat_agent.act(ids)
        completion = Completion(tuple(ids), (0.0,) * len(ids), "stop", self.policy.version)
        return Reply(action, action, prompt=prompt, completion=completion)

    async def _step(self, state: AgentState, reply: Reply) -> StopReason | None:
        """Let a reply have its effect and record the turn. Returns why the episode is over, None if it is not."""
        state_key = str(self.info.get("state_key", ""))
        if is_stepped(reply.error, state.name):
            observation, reward, terminated, truncated, info = checked_step(await self.env.step(reply.action))
        else:
            observation, reward, terminated, truncated, info = reply.feedback, 0.0, False, False, self.info
        seen = Observation(observation, info, reward)
        invalid = reply.error or ("refused" if info.get("invalid_action") else "")
        self._pay(state, invalid, seen)
        state.add(reply, state_key, invalid)
        self.turns.append(state)
        self._take(seen)
        won = self.info["won"]
        if terminated or (won and state is self.only):
            return StopReason.SUCCESS if won else StopReason.FAILURE
        self.stopped = self.spec.broken_rule(state.turns)
        if self.stopped:
            return StopReason.FAILURE
        return StopReason.STEP_LIMIT if truncated else None

    def _pay(self, state: AgentState, invalid: str, seen: Observation) -> None:
        """Give each agent its reward of the turn that `state` takes: its own, and its share of the team's."""
        if invalid:
            state.reward("invalid_action", -self.spec.invalid_penalty, is_acting=True)
        if state is self.only:
            if seen.reward:
                state.reward("env", seen.reward, is_acting=True)
            return
        rewards: Mapping[str, float] = seen.info["rewards"]
        if not any(rewards.values()):
            return
        share, team = self.spec.reward_share, sum(rewards.values()) / len(self.states)
        for agent, each in self.states.items():
            each.reward("env", (1.0 - share) * rewards.get(agent, 0.0), is_acting=each is state)
            each.reward("team", share * team, is_acting=each is state)

    def _take(self, seen: Observation) -> None:
        """Take in the environment's answer: for whoever is next, and about everybody."""
        self.info, self.observation = checked_info(seen.observation, seen.info), seen.observation
        self.observations.append(seen)
        if self.only is not None:
            self.only.observe(self.observation, self.info)
            return
        for agent, outcome in self.info["outcomes"].items():
            state = self._state(agent)
            as_score(outcome["score"])  # the mean of all, which is checked above, may hide it
            if outcome["is_over"] and state.outcome is None:
                cut = StopReason.STEP_LIMIT if outcome["is_truncated"] else StopReason.FAILURE
                state.outcome = StopReason.SUCCESS if outcome["won"] else cut, dict(outcome)

    async def _resume(self, start: Fork) -> None:
        """Go back to a fork: its turns in the agents' memory, its state in the environment, its guidance shown.

        Raises `ReplayDiverged` if the environment came to another state.
        """
        parent, turn = start.parent, start.turn
        await go_back(self.env, start)
        guided = self.only or self._state(start.agent or str(parent.observations[turn].info["agent"]))
        if start.guidance and guided.chat_agent is not None:
            guided.split()
        for number, past in enumerate(parent.trajectory.turns[:turn]):
            self._take(parent.observations[number])
            self._take_again(past, parent.observations[number + 1])
        self._take(parent.observations[turn])
        self.snapshots, self.remaining = list(parent.snapshots[:turn]), list(parent.remaining[:turn])
        if start.guidance and guided.chat_agent is not None:
            guided.chat_agent.inject(start.guidance)

    def _take_again(self, past: Turn, seen: Observation) -> None:
        """Take a turn of the parent as it was sampled; `seen` followed it."""
        state = self.only or self._next()
        if state.chat_agent is not None:
            state.chat_agent.prompt()
            state.note_reply(past.action_ids)
            state.chat_agent.act(past.action_ids)
        self._pay(state, past.info["invalid_action"], seen)
        state.add_again(past)
        self.turns.append(state)

    def record(self, stop: StopReason, error: dict[str, Any] | None) -> EpisodeRecord:
        """Return the episode as it was played: everybody's turns in order, and the trajectory of each agent."""
        if stop is StopReason.ENV_ERROR and self.failed is not None:
            stop = StopReason.POLICY_ERROR
        last = self.observation if self.only is None else self.only.asked
        ends = (self.failed, self.stopped, self.needed_tokens)
        ending = Ending(self.spec, self.start, self.info, last, stop, error, *ends)
        each = tuple(ending.trajectory(state) for state in self.states.values())
        own = {name: iter(state.turns) for name, state in self.states.items()}
        turns = [next(own[state.name]) for state in self.turns]
        return EpisodeRecord(
            each[0] if self.only is not None else ending.team_trajectory(turns, self.states.values(), each),
            tuple(self.observations),
            self.spec.seed,
            self.reset_seed,
            tuple(self.snapshots),
            tuple(self.remaining),
            self._unguided(each),
            team=() if self.only is not None else each,
        )

    def _unguided(self, each: Sequence[Trajectory]) -> Trajectory | None:
        """Return the trajectory of the guided agent, if there is one, as it is trained without the guidance."""
        for state, trajectory in zip(self.states.values(), each, strict=True):
            if state.unguided is not None and self.start is not None:
                shared = own_turns(self.start.parent.trajectory.turns[: self.start.turn], state.name)
                return replace(trajectory, turns=state.unguided_turns(shared))
        return None
