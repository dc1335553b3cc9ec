"""What the settings of the experience store mean for a batch, and which go together."""

from __future__ import annotations

from agentgym_rft.config.run import Config, num_fresh, num_replayed, plays_nothing
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms.base import Algorithm


def check_store(config: Config, algorithm: Algorithm) -> None:
    """Raise `ConfigError` for settings that do not go together."""
    store, num_tasks = config.store, config.rollout.num_tasks
    if plays_nothing(config):
        if store.path is None:
            raise ConfigError("store.replay_share=1 trains on a store that others fill: say which with store.path.")
        if config.trainer.mode != "sync" or config.rollout.stored is not None:
            raise ConfigError("With store.replay_share=1 nothing is played: leave out trainer.mode and rollout.stored.")
    elif store.replay_share:
        if config.rollout.stored is not None:
            raise ConfigError("rollout.stored replaces playing, and store.replay_share adds to it: leave one out.")
        if not num_replayed(config) or not num_fresh(config):
            raise ConfigError(
                f"store.replay_share={store.replay_share:g} of {num_tasks} groups a step leaves none to replay, or "
                "none to play. Change it, or rollout.num_tasks."
            )
        if store.max_uses == 1:
            raise ConfigError(
                "store.max_uses=1 lets no group be replayed: its own step is its first use. Set 2 or null."
            )
    if store.replay_share and store.replay_as == "imitation" and not algorithm.uses_auxiliary:
        raise ConfigError(
            f"store.replay_as=imitation is for an algorithm that imitates, such as spear; '{algorithm.name}' does not."
        )
    if config.rollout.experts.num and not algorithm.uses_auxiliary:
        raise ConfigError(
            f"rollout.experts.num={config.rollout.experts.num} is for an algorithm that imitates, such as mix; "
            f"'{algorithm.name}' does not."
        )
