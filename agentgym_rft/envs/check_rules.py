"""Rules of the environment contract about what single calls give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium import spaces

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check_subject import RandomActor, Subject, fail, is_number, require
from agentgym_rft.errors import AgentGymError

_UNKNOWN = "no such name, 7f3a"


def is_a_text_env(subject: Subject) -> None:
    """It is a `TextEnv` with text on both sides."""
    env: Any = subject.make()
    require(isinstance(env, TextEnv), f"{type(env).__name__} is not an agentgym_rft.envs.TextEnv; inherit from it.")
    for name, space in (("observation_space", env.observation_space), ("action_space", env.action_space)):
        require(isinstance(space, spaces.Text), f"{name} is {space!r}, expected a Text space such as AnyText().")


def lists_its_tasks(subject: Subject) -> None:
    """Task ids are distinct strings, in the same order in every instance."""
    ids = list(subject.make().task_ids(subject.split))
    require(bool(ids), f"task_ids('{subject.split}') is empty.")
    wrong = [task_id for task_id in ids if not isinstance(task_id, str)]
    require(not wrong, f"task_ids('{subject.split}') holds {wrong[:1]}, expected str ids only.")
    require(len(set(ids)) == len(ids), f"task_ids('{subject.split}') names a task twice.")
    again = list(subject.make().task_ids(subject.split))
    require(ids == again, f"task_ids('{subject.split}') differs between two instances; a panel must be frozen.")


def tasks_have_content(subject: Subject) -> None:
    """`task_content` is bytes, the same in every instance, and differs between tasks."""
    contents = []
    for task_id in subject.tasks():
        content, again = subject.make().task_content(task_id), subject.make().task_content(task_id)
        require(isinstance(content, bytes), f"task_content('{task_id}') is a {type(content).__name__}, expected bytes.")
        require(content == again, f"task_content('{task_id}') differs between two instances.")
        contents.append(content)
    require(
        len(set(contents)) == len(contents), "task_content is the same for two tasks; splits could not be compared."
    )


def unknown_names_are_refused(subject: Subject) -> None:
    """An unknown split or task raises an error of this package, which says so in a sentence."""
    env = subject.make()
    calls: dict[str, Callable[[], object]] = {
        "task_ids of an unknown split": lambda: env.task_ids(_UNKNOWN),
        "reset to an unknown task": lambda: env.reset(options={"task_id": _UNKNOWN}),
    }
    for what, call in calls.items():
        try:
            call()
        except AgentGymError:
            continue
        except Exception as error:  # whatever it is, it is the wrong one, and the rule says so
            fail(f"{what} raises {type(error).__name__}, expected DataError.")
        fail(f"{what} is not refused, expected DataError.")


def reset_gives_observation_and_info(subject: Subject) -> None:
    """`reset` gives an observation and an info dict, with a task and without."""
    env = subject.make()
    for options in (None, {"task_id": subject.tasks()[0]}):
        result: Any = env.reset(seed=0, options=options)
        require(
            isinstance(result, tuple) and len(result) == 2,
            f"reset gives {_shape(result)}, expected (observation, info).",
        )
        _check_observation(env, result[0], "reset")
        _check_info(result[1], "reset")
        require(result[1]["won"] is False, "info['won'] is True right after reset.")


def reset_selects_the_task(subject: Subject) -> None:
    """`reset(options={"task_id": ...})` starts that task."""
    env = subject.make()
    for task_id in subject.tasks():
        _, info = env.reset(seed=0, options={"task_id": task_id})
        require(info["task_id"] == task_id, f"reset to task '{task_id}' started '{info['task_id']}'.")


def step_gives_five_values(subject: Subject) -> None:
    """`step` gives `(observation, reward, terminated, truncated, info)` of the right types."""
    env, seen = subject.new()
    result: Any = env.step(RandomActor(0).act(seen))
    require(
        isinstance(result, tuple) and len(result) == 5,
        f"step gives {_shape(result)}, expected (observation, reward, terminated, truncated, info).",
    )
    observation, reward, terminated, truncated, _ = result
    _check_observation(env, observation, "step")
    require(is_number(reward), f"reward is {reward!r}, expected a finite number.")
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        require(isinstance(value, bool), f"{name} is a {type(value).__name__}, expected bool.")


def step_info_has_its_keys(subject: Subject) -> None:
    """Every `info` has the fixed keys, and a win ends the episode."""
    for seed in range(3):
        env, seen = subject.new(seed=seed)
        actor = RandomActor(seed)
        for _ in range(30):
            _, reward, terminated, truncated, info = env.step(actor.act(seen))
            _check_info(info, "step")
            require(is_number(reward), f"reward is {reward!r}, expected a finite number.")
            require(
                terminated or not info["won"], "info['won'] is True but terminated is False; a win ends the episode."
            )
            if terminated or truncated:
                break


def can_be_closed_twice(subject: Subject) -> None:
    """`close` can be called before and after use, and again."""
    subject.make().close()
    env, _ = subject.new()
    for call in ("first", "second"):
        try:
            env.close()
        except Exception as error:  # any error here breaks the rule
            fail(f"the {call} close raises {type(error).__name__}: {error}.")


def _check_observation(env: TextEnv, observation: object, where: str) -> None:
    require(
        isinstance(observation, str), f"the observation of {where} is a {type(observation).__name__}, expected str."
    )
    require(
        env.observation_space.contains(observation), f"the observation of {where} is not in {env.observation_space!r}."
    )


def _check_info(info: Any, where: str) -> None:
    require(isinstance(info, dict), f"the info of {where} is a {type(info).__name__}, expected dict.")
    for key, kind in (("task_id", str), ("won", bool), ("state_key", str), ("invalid_action", bool)):
        require(key in info, f"the info of {where} lacks '{key}'.")
        require(isinstance(info[key], kind), f"info['{key}'] is {info[key]!r}, expected a {kind.__name__}.")
    require("score" in info, f"the info of {where} lacks 'score'.")
    require(
        is_number(info["score"]) and 0 <= info["score"] <= 1,
        f"info['score'] is {info['score']!r}, expected a number from 0 to 1.",
    )
    actions = info.get("admissible_actions", [])
    require(
        isinstance(actions, list) and all(isinstance(action, str) for action in actions),
        "info['admissible_actions'] is not a list of str.",
    )
    if "task_type" in info:
        require(isinstance(info["task_type"], str), f"info['task_type'] is {info['task_type']!r}, expected a str.")


def _shape(result: object) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
