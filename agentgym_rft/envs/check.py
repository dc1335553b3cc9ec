"""The checker of the environment contract: `check_env` raises one sentence about the first broken rule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym

from agentgym_rft import registry
from agentgym_rft.envs import check_rules, check_runs
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check_subject import Subject
from agentgym_rft.errors import EnvContractError

RULES: tuple[Callable[[Subject], None], ...] = (
    check_rules.is_a_text_env,
    check_rules.lists_its_tasks,
    check_rules.tasks_have_content,
    check_rules.reset_gives_observation_and_info,
    check_rules.reset_selects_the_task,
    check_rules.unknown_names_are_refused,
    check_rules.step_gives_five_values,
    check_rules.step_info_has_its_keys,
    check_runs.same_seed_gives_the_same_episode,
    check_runs.global_generators_are_left_alone,
    check_runs.instances_do_not_share_state,
    check_runs.returned_info_is_a_copy,
    check_runs.any_text_is_an_action,
    check_runs.episodes_end_and_stay_ended,
    check_runs.snapshots_continue_the_episode,
    check_rules.can_be_closed_twice,
)


def check_env(env: TextEnv | str | Callable[[], TextEnv], *, split: str = "train") -> list[str]:
    """The names of the rules that hold: all of them.

    Args:
        env: a registered name, a class or function that makes an environment, or an instance (wrapped or not), which is
            not stepped: others are made like it.
        split: where tasks are taken from.
    Raises:
        EnvContractError: one sentence about the first broken rule.
    """
    subject = Subject(_factory(env), split)
    for rule in RULES:
        try:
            rule(subject)
        except EnvContractError:
            raise
        except Exception as error:  # whatever an environment raises while it is checked breaks the contract
            what = rule.__name__.replace("_", " ")
            raise EnvContractError(f"While checking '{what}': {type(error).__name__}: {error}") from error
    return [rule.__name__ for rule in RULES]


def _factory(env: TextEnv | str | Callable[[], TextEnv]) -> Callable[[], TextEnv]:
    if isinstance(env, str):
        name = env
        return lambda: cast(TextEnv, registry.make(name))
    if isinstance(env, gym.Env):
        return _twin_factory(env)
    if callable(env):
        return env
    raise EnvContractError(f"A {type(env).__name__} is not an environment: pass a name, a class or an instance.")


def _twin_factory(env: Any) -> Callable[[], TextEnv]:
    """A function that makes instances like `env`: by its registered spec, else by copying it."""
    bare = env.unwrapped
    if bare.spec is not None:
        spec = bare.spec
        return lambda: cast(TextEnv, registry.make(spec.id, **spec.kwargs))
    try:
        copy.deepcopy(bare)
    except TypeError as error:
        name = type(bare).__name__
        raise EnvContractError(f"This {name} cannot be copied ({error}): pass the class or a function.") from error
    return lambda: cast(TextEnv, copy.deepcopy(bare))
