"""Demonstrations of several agents: each agent's expert plays, recorded as the tokens of that agent's own chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from agentgym_rft.agents.agent import ChatAgent
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.config.sft import SftConfig, SftSection
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.seats import Agents, AgentSpec, check_seats, make_agents, seat_card, seat_section
from agentgym_rft.trainers.sft.demonstrations import asked, drawn_tasks, is_learnt_from, player_of, show
from agentgym_rft.trainers.sft.word_substitution import WordSubstitution


def sft_cards(config: SftConfig, env: TextEnv) -> dict[str, AgentCard]:
    """The card of each agent of an environment with several. Raises `ConfigError` for one that is wrong."""
    sections = config.team.seats
    check_seats(env.seats, sections)
    return {agent: seat_card(config, seat_section(agent, role, sections)) for agent, role in env.seats.items()}


def sft_agents(config: SftConfig, env: TextEnv, tokenizer: Any) -> Agents:
    """The agents of a supervised run. Those whose policy is not `trained` play, but nothing is learnt from them."""
    keys = dict.fromkeys(env.seats, "")
    return make_agents(env.seats, config.team.seats, sft_cards(config, env), keys, tokenizer)


class _Learner:
    """An agent with its conversation and turns so far."""

    def __init__(self, seat: AgentSpec) -> None:
        self.seat, self.agent = seat, ChatAgent(seat.card, seat.chat)
        self.turns: list[Turn] = []
        self.reward = 0.0

    def take(self, action: str, state_key: str) -> None:
        """The turn in which the agent acts as its expert did."""
        prompt = self.agent.prompt()
        ids = self.seat.chat.reply(format_reply(action, "", self.seat.card.action))
        self.agent.act(ids)
        self.turns.append(Turn(prompt.added, ids, (0.0,) * len(ids), state_key=state_key, restart=prompt.restart))

    def trajectory(self, task_id: str, name: str, standing: Mapping[str, Any]) -> Trajectory:
        lost = StopReason.STEP_LIMIT if standing["is_truncated"] else StopReason.FAILURE
        return Trajectory(
            task_id,
            name,
            name,
            tuple(self.turns),
            StopReason.SUCCESS if standing["won"] else lost,
            agent_id=self.seat.agent,
            rewards={"env": self.reward},
            info={"role": self.seat.role, "player": self.seat.player, "is_trained": self.seat.is_trained},
        )


def demonstrate_team(
    env: TextEnv,
    agents: Agents,
    task_id: str,
    *,
    seed: int,
    section: SftSection,
    substitution: WordSubstitution | None = None,
) -> tuple[Trajectory, ...]:
    """Play one episode with the experts of all agents.

    Each gets a trajectory with the ids that it would have to sample.

    With a `substitution` the experts read the environment's own texts, and the agents those in substitution.
    """
    observation, info = env.reset(seed=seed % 2**31, options={"task_id": task_id})
    player = player_of(env, observation, np.random.default_rng(seed), section.player, section.noise)
    learners = {seat.agent: _Learner(seat) for seat in agents}
    terminated = truncated = False
    while not (terminated or truncated):
        learner = learners[info["agent"]]
        show(learner.agent, substitution, observation, info)
        action = asked(player, observation, info)
        learner.take(action if substitution is None else substitution.text(action), str(info.get("state_key", "")))
        observation, _, terminated, truncated, info = env.step(action)
        for agent, reward in info["rewards"].items():
            learners[agent].reward += float(reward)
    name = f"demonstration/{task_id}/{seed}"
    return tuple(each.trajectory(task_id, name, info["outcomes"][agent]) for agent, each in learners.items())


def team_demonstrations(
    env: TextEnv, agents: Agents, *, split: str, seed: int, section: SftSection
) -> Iterator[Trajectory]:
    """Demonstrations of the trained agents without end, over shuffled passes of a split.

    Of experts only the agents that won are learnt from (with `sft.lost` all), of random play all.
    """
    for task_id, own_seed, substitution in drawn_tasks(env, split, seed, section):
        for trajectory in demonstrate_team(
            env, agents, task_id, seed=own_seed, section=section, substitution=substitution
        ):
            if trajectory.info["is_trained"] and trajectory.turns and is_learnt_from(trajectory, section):
                yield trajectory
