"""`agentgym play`: a person plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import typer

from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import ConfigError, EnvError
from agentgym_rft.report.terminal import say

HELP = "Type an action; ? lists what is possible; Ctrl-D ends."


def play_command(
    env: Annotated[str, typer.Option(help="Environment: id, short name, or module:Class.")] = "alfworld",
    split: Annotated[str | None, typer.Option(help="Take the first task of this split.")] = None,
    task: Annotated[str | None, typer.Option(help="Task id; default: drawn with the seed.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the episode; default: another one each time.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory, for environments that take one.")] = None,
    seat: Annotated[str | None, typer.Option(help="Of several agents, the one you play; default: all.")] = None,
    policy: Annotated[
        Literal["random", "oracle", "expert"] | None,
        typer.Option(help="Who plays the other seats; default: the expert if there is one, else random."),
    ] = None,
) -> None:
    """Play one episode yourself."""
    instance = make_env(env, {} if data is None else {"data": data})
    try:
        if task is None and split is not None:
            task = instance.task_ids(split)[0]
        if seat is not None or policy is not None:
            seat = _known(instance, seat)
        play_episode(instance, task, seed, _ask, say, seat, policy)
    finally:
        close_env(instance)


def play_episode(
    env: TextEnv,
    task_id: str | None,
    seed: int | None,
    ask: Callable[[], str | None],
    say: Callable[[str], None],
    seat: str | None = None,
    policy: str | None = None,
) -> dict[str, Any]:
    """Play until the episode ends or `ask` gives None. Returns the last info.

    With a `seat`, the person plays that agent and sees only its observations; scripts of the kind `policy` play the
    others.
    """
    observation, info = env.reset(seed=seed, options=None if task_id is None else {"task_id": task_id})
    say(f"task {info['task_id']}. {f'You are {seat}. ' if seat else ''}{HELP}\n")
    others: dict[str, _Scripted] = {}
    rng, num_turns = np.random.default_rng(seed), 0
    own = _standing(info, seat, observation, is_over=False)
    while not own["is_over"]:
        if seat is None or info["agent"] == seat:
            say(observation)
            action = _asked(ask, say, info)
            if action is None:
                break
            num_turns += 1
        else:
            agent = info["agent"]
            if agent not in others:
                others[agent] = _Scripted(env, policy, agent, observation, rng)
            action = others[agent].act(observation, info)
        observation, _, terminated, truncated, info = env.step(action)
        own = _standing(info, seat, observation, is_over=terminated or truncated)
    if own["is_over"]:
        say(own["final"])
    outcome = "won" if own["won"] else "lost" if own["is_over"] else "left"
    say(f"\n{outcome} after {num_turns} turns, score {own['score']:.2f}")
    return dict(info)


def _standing(info: dict[str, Any], seat: str | None, observation: str, *, is_over: bool) -> dict[str, Any]:
    """Return how things stand for a seat, or for all: `won`, `score`, `is_over`, and what was read last."""
    if seat is not None:
        return dict(info["outcomes"][seat])
    return {"won": info["won"], "score": info["score"], "is_over": is_over, "final": observation}


def _known(env: TextEnv, seat: str | None) -> str:
    seats = list(env.seats)
    if seat in seats:
        return str(seat)
    if not seats:
        raise ConfigError("This environment has one agent, so there are no seats: leave out --seat and --policy.")
    what = f"There is no seat '{seat}'" if seat else "--policy plays the other seats"
    raise ConfigError(f"{what}; give --seat one of {', '.join(seats)}.")


def _asked(ask: Callable[[], str | None], say: Callable[[str], None], info: dict[str, Any]) -> str | None:
    while (action := ask()) is not None and action.strip() == "?":
        say("\n".join(info.get("admissible_actions") or ["This environment lists no actions."]))
    return action


class _Scripted:
    """The scripted player of an agent that no person plays. Raises `ConfigError` if there is no such script."""

    def __init__(self, env: TextEnv, kind: str | None, agent: str, observation: str, rng: np.random.Generator) -> None:
        self._rng = rng
        self._player: Expert | None = None
        try:
            self._player = env.seat_player(kind or "expert", agent, observation, rng)
        except EnvError as error:
            if kind is not None:
                raise ConfigError(f"--policy {kind} cannot play '{agent}': {error}") from error
            self._player = env.seat_player("random", agent, observation, rng)

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """Its action: a random admissible one if the environment has no such player."""
        if self._player is not None:
            return self._player.act(observation)
        actions = info.get("admissible_actions") or [""]
        return str(actions[int(self._rng.integers(len(actions)))])


def _ask() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None
