"""Rollout strategies: how the trajectories of one group are played. `STRATEGIES` maps names to coroutines."""

from agentgym_rft.rollouts.strategies.base import STRATEGIES, GroupPlan, RolloutWorkers, Strategy, register_strategy
from agentgym_rft.rollouts.strategies.counterfactual import counterfactual
from agentgym_rft.rollouts.strategies.plain import plain
from agentgym_rft.rollouts.strategies.reflect_retry import reflect_retry

__all__ = [
    "STRATEGIES",
    "GroupPlan",
    "RolloutWorkers",
    "Strategy",
    "counterfactual",
    "plain",
    "reflect_retry",
    "register_strategy",
]
