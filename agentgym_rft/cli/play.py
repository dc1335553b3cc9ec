"""`agentgym play`: a person plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from agentgym_rft.envs.making import make_env

HELP = "Type an action; ? lists what is possible; Ctrl-D ends."


def play_command(
    env: Annotated[str, typer.Option(help="Environment: id, short name, or module:Class.")] = "alfworld",
    split: Annotated[str | None, typer.Option(help="Take the first task of this split.")] = None,
    task: Annotated[str | None, typer.Option(help="Task id; default: drawn with the seed.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the episode; default: another one each time.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory, for environments that take one.")] = None,
) -> None:
    """Play one episode yourself."""
    instance = make_env(env, {} if data is None else {"data": data})
    try:
        if task is None and split is not None:
            task = instance.task_ids(split)[0]
        play_episode(instance, task, seed, _ask, typer.echo)
    finally:
        instance.close()


def play_episode(
    env: Any, task_id: str | None, seed: int | None, ask: Callable[[], str | None], say: Callable[[str], None]
) -> dict[str, Any]:
    """Play until the episode ends or `ask` gives None. Returns the last info."""
    observation, info = env.reset(seed=seed, options=None if task_id is None else {"task_id": task_id})
    say(f"task {info['task_id']}. {HELP}\n")
    num_turns, is_over = 0, False
    say(observation)
    while not is_over and (action := ask()) is not None:
        if action.strip() == "?":
            say("\n".join(info.get("admissible_actions") or ["This environment lists no actions."]))
            continue
        observation, _, terminated, truncated, info = env.step(action)
        num_turns += 1
        is_over = terminated or truncated
        say(observation)
    outcome = "won" if info["won"] else "lost" if is_over else "left"
    say(f"\n{outcome} after {num_turns} turns, score {info['score']:.2f}")
    return dict(info)


def _ask() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None
