"""How the trajectories of one group come about. A strategy is a coroutine; `STRATEGIES` maps names to them."""

from agentgym_rft.rollouts.strategies.base import GroupPlan, Player, Strategy
from agentgym_rft.rollouts.strategies.plain import plain
from agentgym_rft.rollouts.strategies.reflect_retry import reflect_retry

__all__ = ["STRATEGIES", "GroupPlan", "Player", "Strategy", "plain", "reflect_retry"]

STRATEGIES: dict[str, Strategy] = {"plain": plain, "reflect_retry": reflect_retry}
