"""A Ray worker of the package that plays with a scripted policy in place of a model."""

from __future__ import annotations

from scale_env import scripted_policy

from agentgym_rft.rollouts.make import make_workers
from agentgym_rft.rollouts.ray.actor import RolloutWorker
from agentgym_rft.rollouts.ray.packing import Packed
from agentgym_rft.rollouts.ray.setup import Location, Setup, location


class ScriptedWorker(RolloutWorker):
    async def start(self, setup: Setup, packed: Packed | None, version: int) -> Location:
        self._workers = make_workers(setup.config, setup.tokenizer, scripted_policy(setup.tokenizer))
        return location()
