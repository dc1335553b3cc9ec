"""The sections about environments with several agents."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from agentgym_rft.config.base import MAX_SAMPLES, Section


class SeatSection(Section):
    """An agent, or all agents of a role."""

    card: str | None = Field(None, description="agent card of the seat; default: agent.card")
    overrides: dict[str, Any] = Field(default_factory=dict, description="card fields to replace")
    policy: str = Field(
        "trained", description="trained; oracle, expert, random: scripts; another policy: plays, is not trained"
    )


class PoolSection(Section):
    """Opponents from the run's own past; one seat is trained in each group then, in turn."""

    share: float = Field(0.0, ge=0, le=1, description="share of the groups that are played against the pool; 0: none")
    every: int = Field(5, ge=1, description="steps between the policies that join the pool")
    size: int = Field(8, ge=1, description="policies in the pool; the oldest but the first leaves it")
    rule: Literal["uniform", "latest", "prioritised"] = Field(
        "uniform", description="who is drawn; prioritised: by (1 - own success rate against it) ** 2"
    )


class CounterfactualSection(Section):
    """Difference rewards; only the strategy `counterfactual` reads it."""

    turns: int = Field(1, ge=1, description="turns of each agent and episode that are replaced, drawn at random")
    by: Literal["noop", "policy"] = Field(
        "noop", description="the environment's no-op, or another sample of the policy"
    )
    samples: int = Field(1, ge=1, le=MAX_SAMPLES, description="continuations of each replacement")
    coef: float = Field(1.0, ge=0, description="weight of the difference reward")


class TeamSection(Section):
    """Environments with several agents, see docs/multi_agent.md; one agent has no use for it."""

    seats: dict[str, SeatSection] = Field(default_factory=dict, description="by agent or role")
    weights: Literal["shared", "separate"] = Field(
        "shared", description="shared: all trained seats are one policy; separate: one for each role"
    )
    reward_share: float = Field(
        0.0, ge=0, le=1, description="share of the team's mean reward in each agent's; 0: its own alone, 1: the team's"
    )
    baseline: Literal["seat", "role", "team"] = Field("seat", description="whose returns are compared with each other")
    reply_timeout_s: float | None = Field(None, gt=0, description="deadline of one agent's reply; default: none")
    pool: PoolSection = PoolSection()
    counterfactual: CounterfactualSection = CounterfactualSection()
