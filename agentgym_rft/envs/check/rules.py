"""Rules of the environment contract about the results of single calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from gymnasium import spaces

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check.subject import (
    RandomActor,
    Subject,
    books_of,
    fail,
    is_number,
    raised,
    require,
    require_refused,
    short,
)
from agentgym_rft.envs.panels import assert_disjoint
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import AgentGymError, DataError

_UNKNOWN = "no such name, 7f3a"
_NUM_CONTENTS = 50
_MANY_TASKS = 20
_OPTIONAL_TEXTS = ("goal", "task_type")


def is_a_text_env(subject: Subject) -> None:
    """Check that the environment is a `TextEnv` with text on both sides."""
    env: Any = subject.factory()
    require(isinstance(env, TextEnv), f"{type(env).__name__} is not an agentgym_rft.envs.TextEnv; inherit from it.")
    found = [("observation_space", env.observation_space), ("action_space", env.action_space)]
    if isinstance(env, TurnsEnv):
        for agent in env.seats:
            found.append((f"observation_space of '{agent}'", env.env.observation_space(agent)))
            found.append((f"action_space of '{agent}'", env.env.action_space(agent)))
    for name, space in found:
        require(isinstance(space, spaces.Text), f"{name} is {space!r}, expected a Text space such as AnyText().")


def can_be_closed_twice(subject: Subject) -> None:
    """Check that `close` can be called before and after use, and again."""
    subject.factory().close()
    env = subject.factory()
    env.reset(seed=0)
    for call in ("first", "second"):
        try:
            env.close()
        except Exception as error:  # any error here breaks the rule
            fail(f"the {call} close raises {raised(error)}.")


def lists_its_splits(subject: Subject) -> None:
    """Check that `splits` is a tuple of distinct names, and each has tasks."""
    env = subject.make()
    names: Any = env.splits
    require(
        isinstance(names, tuple) and bool(names) and all(isinstance(name, str) for name in names),
        f"splits is {names!r}, expected a tuple of names, the one to train on first.",
    )
    require(len(set(names)) == len(names), f"splits {names!r} names a split twice.")
    for name in names:
        require(len(env.task_ids(name)) > 0, f"task_ids('{name}') is empty.")


def lists_its_tasks(subject: Subject) -> str:
    """Check that task ids are distinct strings, in the same order in every instance."""
    env = subject.make()
    split = subject.split_of(env)
    ids = list(env.task_ids(split))
    require(bool(ids), f"task_ids('{split}') is empty.")
    wrong = [task_id for task_id in ids if not isinstance(task_id, str)]
    require(not wrong, f"task_ids('{split}') holds {wrong[:1]}, expected str ids only.")
    require(len(set(ids)) == len(ids), f"task_ids('{split}') names a task twice.")
    again = list(subject.make().task_ids(split))
    require(ids == again, f"task_ids('{split}') differs between two instances; a panel must be frozen.")
    return f"{len(ids)} tasks in {split}"


def tasks_have_content(subject: Subject) -> None:
    """Check that `task_content` is bytes, the same in every instance, and differs between tasks."""
    contents = []
    first, second = subject.make(), subject.make()
    for task_id in subject.tasks():
        content, again = first.task_content(task_id), second.task_content(task_id)
        require(isinstance(content, bytes), f"task_content('{task_id}') is a {type(content).__name__}, expected bytes.")
        require(content == again, f"task_content('{task_id}') differs between two instances.")
        contents.append(content)
    require(
        len(set(contents)) == len(contents), "task_content is the same for two tasks; splits could not be compared."
    )


def splits_are_disjoint(subject: Subject) -> None:
    """Check that no task is in two splits: by id all of them, by content the first 50 of each."""
    env = subject.make()
    for left, right in combinations(env.splits, 2):
        both = set(env.task_ids(left)) & set(env.task_ids(right))
        require(not both, f"task '{min(both, default='')}' is in '{left}' and in '{right}'; splits share no task.")
        try:
            assert_disjoint(env, left, right, _NUM_CONTENTS)
        except DataError as error:
            fail(str(error))


def unknown_names_are_refused(subject: Subject) -> None:
    """Check that an unknown split or task raises an error of this package, which says so in a sentence."""
    env = subject.make()
    calls: dict[str, Callable[[], object]] = {
        "task_ids of an unknown split": lambda: env.task_ids(_UNKNOWN),
        "reset to an unknown task": lambda: env.reset(options={"task_id": _UNKNOWN}),
    }
    for what, call in calls.items():
        require_refused(call, what, AgentGymError, DataError)


def reset_gives_observation_and_info(subject: Subject) -> None:
    """Check that `reset` gives an observation and an info dict, with a task and without."""
    env = subject.make()
    for options in (None, {"task_id": subject.tasks()[0]}):
        result: Any = env.reset(seed=0, options=options)
        require(
            isinstance(result, tuple) and len(result) == 2,
            f"reset gives {_shape(result)}, expected (observation, info).",
        )
        check_observation(env, result[0], "reset")
        _check_info(result[1], "reset")
        _check_agents(env, "reset")
        require(result[1]["won"] is False, "info['won'] is True right after reset.")


def reset_selects_the_task(subject: Subject) -> None:
    """Check that `reset(options={"task_id": ...})` starts that task."""
    env = subject.make()
    for task_id in subject.tasks():
        _, info = env.reset(seed=0, options={"task_id": task_id})
        require(info["task_id"] == task_id, f"reset to task '{task_id}' started '{info['task_id']}'.")


def reset_draws_a_task_by_its_seed(subject: Subject) -> None:
    """Check that without a task, `reset` draws a listed one with the env's own generator, which goes on where no
    seed is given.
    """
    env, other = subject.make(), subject.make()
    known = {task_id for split in env.splits for task_id in env.task_ids(split)}
    number = 5 if len(known) > _MANY_TASKS else 20  # so many draws are hardly ever all the same task
    drawn = [env.reset(seed=seed)[1]["task_id"] for seed in range(number)]
    unlisted = next((task_id for task_id in drawn if task_id not in known), None)
    require(unlisted is None, f"reset drew task '{unlisted}', which task_ids lists in no split.")
    is_alone = len(env.task_ids(env.splits[0])) < 2
    require(is_alone or len(set(drawn)) > 1, f"reset draws task '{drawn[0]}' for {number} seeds; use np_random.")
    sequences = []
    for instance in (env, other):
        instance.reset(seed=5)
        sequences.append([instance.reset()[1]["task_id"] for _ in range(number)])
    require(
        sequences[0] == sequences[1],
        "resets without a seed, after one with a seed, draw other tasks in another instance; use np_random.",
    )
    require(
        is_alone or len(set(sequences[0])) > 1,
        f"reset without a seed draws task '{sequences[0][0]}' {number} times; let np_random go on.",
    )


def step_gives_five_values(subject: Subject) -> None:
    """Check that `step` gives `(observation, reward, terminated, truncated, info)` of the right types, all episode
    long.
    """
    env = subject.make()
    for _, result in _steps(subject, env):
        require(
            isinstance(result, tuple) and len(result) == 5,
            f"step gives {_shape(result)}, expected (observation, reward, terminated, truncated, info).",
        )
        observation, reward, terminated, truncated, _ = result
        check_observation(env, observation, "step")
        require(is_number(reward), f"reward is {short(reward)}, expected a finite number.")
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            require(isinstance(value, bool), f"{name} is a {type(value).__name__}, expected bool.")


def step_info_has_its_keys(subject: Subject) -> None:
    """Check that every `info` has the fixed keys, of the task that was reset to."""
    env = subject.make()
    for task_id, (_, _, _, _, info) in _steps(subject, env):
        _check_info(info, "step")
        require(info["task_id"] == task_id, f"info['task_id'] is '{info['task_id']}' in an episode of '{task_id}'.")
        _check_agents(env, "step")


def _steps(subject: Subject, env: TextEnv) -> Iterator[tuple[str, Any]]:
    """Yield the task and what each step of three random episodes gives."""
    for seed in range(3):
        seen = subject.start(env, seed=seed)
        actor = RandomActor(seed)
        for _ in range(30):
            result: Any = env.step(actor.act(seen))
            yield seen.info["task_id"], result
            if result[2] or result[3]:
                break


def _check_agents(env: TextEnv, where: str) -> None:
    """Raise the broken rule unless all that several agents are shown after a reset or step is of the right types."""
    books = books_of(env)
    if books is None or not isinstance(env, TurnsEnv):
        return
    for agent in books.agents:
        require(agent in books.rewards, f"rewards lacks '{agent}', who plays.")
        check_observation(env, books.observations[agent], f"{where} for '{agent}'", env.env.observation_space(agent))
        _check_info(books.infos[agent], f"{where} for '{agent}'", f"infos['{agent}']")
    for agent, reward in books.rewards.items():
        require(is_number(reward), f"the reward of '{agent}' is {short(reward)}, expected a finite number.")


def check_observation(env: TextEnv, observation: Any, where: str, own: spaces.Space[str] | None = None) -> None:
    """Raise the broken rule unless an observation is text of the space that can be encoded."""
    space = own or env.observation_space
    require(
        isinstance(observation, str), f"the observation of {where} is a {type(observation).__name__}, expected str."
    )
    try:
        observation.encode()
    except UnicodeEncodeError:
        fail(f"the observation of {where} holds a lone surrogate, which cannot be written to a file; replace it.")
    require(
        space.contains(observation),
        f"the observation of {where}, of {len(observation)} characters, is not in {space!r}.",
    )


def _check_info(info: Any, where: str, name: str = "info") -> None:
    require(isinstance(info, dict), f"the info of {where} is a {type(info).__name__}, expected dict.")
    for key, kind in (("task_id", str), ("won", bool), ("state_key", str), ("invalid_action", bool)):
        require(key in info, f"the info of {where} lacks '{key}'.")
        require(isinstance(info[key], kind), f"{name}['{key}'] is {short(info[key])}, expected a {kind.__name__}.")
    require("score" in info, f"the info of {where} lacks 'score'.")
    require(
        is_number(info["score"]) and 0 <= info["score"] <= 1,
        f"{name}['score'] is {short(info['score'])}, expected a number from 0 to 1.",
    )
    actions = info.get("admissible_actions", [])
    require(
        isinstance(actions, list) and all(isinstance(action, str) for action in actions),
        f"{name}['admissible_actions'] is not a list of str.",
    )
    measures = info.get("measures", {})
    require(
        isinstance(measures, dict) and all(isinstance(each, str) and is_number(measures[each]) for each in measures),
        f"{name}['measures'] is {short(measures)}, expected finite numbers by name.",
    )
    for key in _OPTIONAL_TEXTS:
        require(isinstance(info.get(key, ""), str), f"{name}['{key}'] is {short(info.get(key))}, expected a str.")


def _shape(result: object) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__name__}"
