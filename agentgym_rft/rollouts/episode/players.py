"""Players without tokens: the scripts of an environment, and whatever else answers in text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from agentgym_rft.agents.agent import Prompt
from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.envs.base import Expert
from agentgym_rft.errors import PolicyError
from agentgym_rft.rollouts.episode.env_calls import EnvCalls
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seeds import derive_seed

_NO_PROMPT, _NO_TOKENS = Prompt((), (), restart=False), Completion((), (), "stop", 0)


class Reply(NamedTuple):
    """The move of an agent in one turn.

    `error` says why a `text` holds no action; `feedback` is then the observation that may answer it. `counts` are the
    numbers of tokens that a player without token ids knows of.
    """

    action: str
    text: str
    error: str = ""
    feedback: str = ""
    prompt: Prompt = _NO_PROMPT
    completion: Completion = _NO_TOKENS
    is_trained: bool = False
    counts: Mapping[str, int] = {}


class Player(Protocol):
    """Plays one agent of one episode."""

    async def act(self, observation: str, info: Mapping[str, Any], turn: int) -> Reply:
        """Answer an observation, in this turn of the episode. What it raises is the agent's error."""
        ...


# Made at the agent's first turn, from the environment in that state, the observation and the episode.
MakePlayer = Callable[[EnvCalls, str, EpisodeSpec], Awaitable[Player]]


class ScriptedPlayer:
    """A script of the environment, asked under the deadline of its steps."""

    def __init__(self, env: EnvCalls, script: Expert) -> None:
        self._env = env
        self._script = script

    async def act(self, observation: str, info: Mapping[str, Any], turn: int) -> Reply:
        action = await self._env.act(self._script, observation)
        return Reply(action, action)


class AnyAdmissible:
    """Picks among the actions that `info` lists, each as likely.

    Args:
        draw: a number below the first argument, in the turn that the second one says.
    """

    def __init__(self, draw: Callable[[int, int], int]) -> None:
        self._draw = draw

    async def act(self, observation: str, info: Mapping[str, Any], turn: int) -> Reply:
        actions: Sequence[str] = info.get("admissible_actions") or ()
        if not actions:
            raise PolicyError(
                "The environment lists no admissible actions and has no random player of its own, so the policy "
                "'random' cannot play it. Give it a method random_player, or info['admissible_actions']."
            )
        action = actions[self._draw(len(actions), turn)]
        return Reply(action, action)


def scripted(kind: str, agent: str = "") -> MakePlayer:
    """Return what makes the players of `oracle`, `expert` or `random` for an agent; "": the only one."""

    async def make(env: EnvCalls, observation: str, spec: EpisodeSpec) -> Player:
        rng = np.random.default_rng(derive_seed(spec.seed, "player", *filter(None, (agent,))))
        script = await env.script(kind, agent, observation, rng)
        if script is not None:
            return ScriptedPlayer(env, script)
        if agent:
            return AnyAdmissible(lambda number, turn: derive_seed(spec.seed, agent, turn) % number)
        return AnyAdmissible(lambda number, turn: int(rng.integers(number)))

    return make
