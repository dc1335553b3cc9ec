"""Rollout strategies: how the trajectories of one group are played. `STRATEGIES` maps names to coroutines."""

from agentgym_rft.errors import RegistryError, did_you_mean
from agentgym_rft.rollouts.strategies.base import GroupPlan, RolloutWorkers, Strategy
from agentgym_rft.rollouts.strategies.counterfactual import counterfactual
from agentgym_rft.rollouts.strategies.plain import plain
from agentgym_rft.rollouts.strategies.reflect_retry import reflect_retry

__all__ = [
    "STRATEGIES",
    "GroupPlan",
    "RolloutWorkers",
    "Strategy",
    "counterfactual",
    "find_strategy",
    "plain",
    "reflect_retry",
]

STRATEGIES: dict[str, Strategy] = {
    "plain": plain,
    "reflect_retry": reflect_retry,
    "counterfactual": counterfactual,
}


def find_strategy(name: str) -> Strategy:
    """The strategy of a name. Raises `RegistryError` for an unknown one."""
    if name not in STRATEGIES:
        raise RegistryError(f"No rollout strategy is called '{name}'.{did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name]
