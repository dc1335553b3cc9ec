"""Adapts any gymnasium environment with text on both sides to `TextEnv`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from agentgym_rft.envs.adapters.seeds import MAX_STEPS, SEEDS, SeedTasks, seed_of
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import ConfigError, EnvError


def as_text_env(env: object, id: str, arguments: Mapping[str, Any]) -> TextEnv:
    """Return the environment itself where it is a `TextEnv`, else in an adapter: several agents' turns as one stream,
    too.

    A plain PettingZoo environment is taken where its spaces are text; others need a renderer (`PettingZooText`).

    Args:
        env: what the class made.
        id: its id, or `module:Class`, for errors.
        arguments: all keyword arguments that it was made with.
    Raises:
        ConfigError: it is no gymnasium or PettingZoo environment, or one whose spaces are not text.
    """
    if isinstance(env, TextEnv):
        return env
    if not isinstance(env, gym.Env):
        from agentgym_rft.envs.adapters.pettingzoo import (
            text_game,  # imports PettingZoo, which one agent has no use for
        )

        game = text_game(env, id, arguments)
        if game is not None:
            return TurnsEnv(game, _spec_of(id, arguments))
        raise ConfigError(
            f"Environment '{id}' makes a {type(env).__name__}, expected an agentgym_rft.envs.TextEnv "
            "or a gymnasium.Env with text on both sides."
        )
    if isinstance(env.unwrapped, TextEnv):
        raise ConfigError(
            f"Environment '{id}' makes a {type(env).__name__} around a TextEnv, which hides its tasks: "
            "return the TextEnv itself."
        )
    _check_spaces(env, id)
    return GymTextEnv(env, arguments)


class GymTextEnv(SeedTasks, TextEnv):
    """A plain gymnasium environment whose tasks are seeds: `seed-0` to `seed-9999` train, the next 1,000 test.

    What the environment puts into `info` stays; the keys that it leaves out are filled:
    `won` is `is_success`, else whether the episode terminated with a last reward of at least 1; `score` is 1 for a win,
    else the return cut to [0, 1]; `state_key` is a hash of all actions and observations since the start of the task, so
    that equal keys mean equal states (the reverse is not known); `invalid_action` is False.
    An episode is truncated after `MAX_STEPS` steps. Lone surrogates in an observation become `?`.
    The content of a task is the class, its arguments and the seed, however the environment was named.
    """

    def __init__(self, env: gym.Env[Any, Any], arguments: Mapping[str, Any]) -> None:
        self.env, self.spec, self.render_mode = env, env.spec, env.render_mode
        made = type(env.unwrapped)
        content = json.dumps([made.__module__, made.__qualname__, dict(arguments)], sort_keys=True, default=repr)
        self.name_tasks(made.__name__, content)
        self._task_id, self._return, self._num_steps = "", 0.0, 0
        self._is_over, self._is_closed = True, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start a task; its seed is what the environment is reset with. Other options are passed to it."""
        super().reset(seed=seed)
        rest = dict(options or {})
        task_id = rest.pop("task_id", None) or f"seed-{self.np_random.integers(len(SEEDS['train']))}"
        task_seed = seed_of(task_id)
        self._is_over = True
        result: Any = self.env.reset(seed=task_seed, options=rest or None)
        if not isinstance(result, tuple) or len(result) != 2:
            raise EnvError(f"{self._name}.reset gave {_shape(result)}, expected (observation, info).")
        self._task_id, self._return, self._num_steps, self._is_over = task_id, 0.0, 0, False
        self._forget(task_id)
        observation = self._text(result[0])
        return observation, self._info(result[1], won=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Pass an action on. Raises `EnvError` after the end, and where the answer is not gymnasium's five values."""
        if self._is_over:
            raise EnvError(f"There is no running episode of {self._name}: call reset before step.")
        result: Any = self.env.step(action)
        if not isinstance(result, tuple) or len(result) != 5:
            raise EnvError(
                f"{self._name}.step gave {_shape(result)}, expected (observation, reward, terminated, truncated, info)."
            )
        observation, reward, terminated = result[0], self._number(result[1], "reward"), bool(result[2])
        self._num_steps += 1
        self._return += reward
        truncated = not terminated and (bool(result[3]) or self._num_steps >= MAX_STEPS)
        self._is_over = terminated or truncated
        self._remember(action)
        text = self._text(observation)
        return text, reward, terminated, truncated, self._info(result[4], won=terminated and reward >= 1)

    def render(self) -> Any:
        """Return what the environment renders."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment, once."""
        if not self._is_closed:
            self._is_closed = True
            self.env.close()

    def _text(self, observation: object) -> str:
        """Return an observation as text that can be encoded; it goes into the history."""
        if not isinstance(observation, str):
            raise EnvError(f"{self._name} gave an observation of type {type(observation).__name__}, expected str.")
        text = observation.encode("utf-8", "replace").decode()
        self._remember(text)
        return text

    def _info(self, given: object, *, won: bool) -> dict[str, Any]:
        """Return the info with the keys of the contract; `won` is what holds if the environment does not say."""
        if not isinstance(given, Mapping):
            raise EnvError(f"{self._name} gave an info of type {type(given).__name__}, expected dict.")
        has_won = self._truth(given, "won", self._truth(given, "is_success", won))
        score = self._number(given["score"], "score") if "score" in given else None
        return {
            "state_key": self._history.hexdigest(),
            **given,
            "task_id": self._task_id,
            "won": has_won,
            "score": score if score is not None else 1.0 if has_won else min(max(self._return, 0.0), 1.0),
            "invalid_action": self._truth(given, "invalid_action", False),
        }

    def _truth(self, info: Mapping[str, Any], key: str, otherwise: bool) -> bool:
        value = _scalar(info.get(key, otherwise))
        if not isinstance(value, (bool, np.bool_)):
            raise EnvError(f"{self._name} gave info['{key}'] = {value!r}, expected a bool.")
        return bool(value)

    def _number(self, given: object, what: str) -> float:
        value = _scalar(given)
        if not isinstance(value, Real):
            raise EnvError(f"{self._name} gave a {what} of type {type(value).__name__}, expected a number.")
        return float(value)


def _check_spaces(env: gym.Env[Any, Any], id: str) -> None:
    """Refuse spaces that are not text. Environments without spaces pass; character sets and lengths do not matter."""
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if space is not None and not isinstance(space, spaces.Text):
            raise ConfigError(
                f"Environment '{id}' has {name} {space!r}, expected text, such as agentgym_rft.envs.AnyText(): "
                "write observations and actions as text."
            )


def _spec_of(id: str, arguments: Mapping[str, Any]) -> Any:
    """Return gymnasium's spec of a registered id, with the arguments; None for another."""
    known = gym.registry.get(id)
    if known is None:
        return None
    return gym.envs.registration.EnvSpec(id, entry_point=known.entry_point, kwargs=dict(arguments))


def _scalar(value: object) -> object:
    """Return what an array without dimensions holds, and anything else as it is."""
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _shape(result: object) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
