"""Environments of text as PettingZoo's own tests can read them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo.utils.wrappers import BaseWrapper

from agentgym_rft.envs.base import AnyText
from agentgym_rft.envs.multi_agent import TextAECEnv


class AsBytes(BaseWrapper[str, Any, str]):
    """Shows observations as bytes of a fixed number, and draws actions that are likely to be legal.

    PettingZoo's `api_test` (1.27) asks every observation for its `dtype`, which text has not, and for equal shapes. So
    an observation is shown as its hash, which differs where the text does. Actions stay text: two of three are drawn
    from `admissible_actions`, so that episodes get somewhere. Spaces are an instance's own, since `seed_test` seeds
    those of two instances alike.
    """

    def __init__(self, env: TextAECEnv, seed: int = 0) -> None:
        super().__init__(env)
        self._box = spaces.Box(0, 255, (64,), np.uint8)
        self._actions = {agent: _LikelyText(env, agent, seed) for agent in env.possible_agents}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self._box

    def action_space(self, agent: str) -> spaces.Space[str]:
        return self._actions[agent]

    def observe(self, agent: str) -> Any:
        text = self.env.observe(agent)
        return np.frombuffer(hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest(), np.uint8)


class _LikelyText(AnyText):
    """Texts that an agent may well write."""

    def __init__(self, env: TextAECEnv, agent: str, seed: int) -> None:
        super().__init__(max_length=20, seed=seed)
        self._env, self._agent = env, agent

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        actions = self._env.infos.get(self._agent, {}).get("admissible_actions") or []
        if actions and self.np_random.integers(3):
            return str(actions[int(self.np_random.integers(len(actions)))])
        return str(super().sample())
