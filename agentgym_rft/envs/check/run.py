"""The checker of the environment contract: `check_env` raises one sentence about the first broken rule."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentgym_rft import registry
from agentgym_rft.envs.adapters.gym import as_text_env
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check import actions, leaks, multi_agent, processes, rules, runs, snapshots
from agentgym_rft.envs.check.subject import THOROUGH, CheckSettings, NamedEnv, Subject, raised
from agentgym_rft.errors import AgentGymError, EnvContractError

if TYPE_CHECKING:
    from pettingzoo.utils.env import AECEnv

Rule = Callable[[Subject], str | None]  # returns a note, or None; raises EnvContractError

# While one of these is broken, the others cannot be judged.
BASIC_RULES: tuple[Rule, ...] = (
    rules.is_a_text_env,
    rules.lists_its_splits,
    rules.lists_its_tasks,
    rules.can_be_closed_twice,
    rules.reset_gives_observation_and_info,
    rules.reset_selects_the_task,
    rules.step_gives_five_values,
    rules.step_info_has_its_keys,
)
RULES: tuple[Rule, ...] = (
    *BASIC_RULES,
    rules.tasks_have_content,
    rules.splits_are_disjoint,
    rules.unknown_names_are_refused,
    rules.reset_draws_a_task_by_its_seed,
    runs.same_seed_gives_the_same_episode,
    runs.global_generators_are_left_alone,
    runs.the_working_directory_is_left_alone,
    runs.the_process_is_left_alone,
    runs.action_logs_replay,
    runs.instances_do_not_share_state,
    runs.calls_may_come_from_any_thread,
    runs.returned_info_is_a_copy,
    runs.wins_end_the_episode_with_full_score,
    runs.episodes_end_and_stay_ended,
    actions.any_text_is_an_action,
    actions.admissible_actions_can_be_said,
    actions.state_keys_tell_states_apart,
    snapshots.snapshots_continue_the_episode,
    snapshots.damaged_snapshots_are_refused,
    processes.other_processes_play_the_same,
    leaks.episodes_leave_nothing_behind,
    leaks.instances_leave_nothing_behind,
    leaks.steps_take_bounded_time,
)


def check_env(
    env: gym.Env[Any, Any] | AECEnv[Any, Any, Any] | str | Callable[[], Any],
    *,
    split: str | None = None,
    settings: CheckSettings = THOROUGH,
) -> list[str]:
    """Return the names of the rules that hold: all of them, those about several agents where there are several.

    Runs in this process: an environment that hangs or ends the process is stopped by `check_report` only.

    Args:
        env: a registered name, a class or function that makes an environment, or an instance (wrapped or not), which is
            not stepped: others are made like it. A plain gymnasium environment is checked in its adapter, and one of
            several agents as its stream of turns.
        split: where tasks are taken from; default: the environment's first.
        settings: how much is checked.
    Raises:
        EnvContractError: one sentence about the first broken rule.
    """
    subject = Subject(_factory(env), split or "", settings, is_fresh=not _is_instance(env))
    names = []
    for rule in (*RULES, *multi_agent.MULTI_RULES):
        if rule in multi_agent.MULTI_RULES and not multi_agent.has_several_agents(subject):
            break
        check_rule(rule, subject)
        names.append(rule.__name__)
    subject.close_all()
    return names


def check_rule(rule: Rule, subject: Subject) -> str:
    """Return the note of a rule that holds. Raises `EnvContractError` with a sentence if it is broken."""
    try:
        note = rule(subject)
        subject.close_all()
        return note or ""
    except EnvContractError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever an environment raises while it is checked breaks the contract
        raise EnvContractError(f"While checking '{shown_name(rule)}': {raised(error)}") from error


def shown_name(rule: Rule) -> str:
    """Return the name of a rule in words."""
    return rule.__name__.replace("_", " ")


def _factory(env: Any) -> Callable[[], TextEnv]:
    if isinstance(env, str):
        return NamedEnv(env)
    if _is_instance(env):
        return _twin_factory(env)
    if not callable(env):
        raise EnvContractError(f"A {type(env).__name__} is not an environment: pass a name, a class or an instance.")
    if isinstance(env, type) and _is_at_top_level(env):
        return NamedEnv(f"{env.__module__}:{env.__name__}")
    return lambda: _adapted(env())


def _is_instance(env: object) -> bool:
    if isinstance(env, (gym.Env, str, type)):
        return isinstance(env, gym.Env)
    from pettingzoo.utils.env import AECEnv, ParallelEnv

    return isinstance(env, (AECEnv, ParallelEnv))


def _is_at_top_level(made: type) -> bool:
    """Return True if another process can import the class by module and name."""
    module = inspect.getmodule(made)
    return made.__module__ != "__main__" and module is not None and vars(module).get(made.__name__) is made


def _adapted(env: object) -> TextEnv:
    return as_text_env(env, type(env).__name__, {})


def _twin_factory(env: Any) -> Callable[[], TextEnv]:
    """Return a function that makes instances like `env`: by its registered spec, else by copying it."""
    bare = env.unwrapped if isinstance(env, gym.Env) else env
    if (
        isinstance(bare, gym.Env)
        and bare.spec is not None
        and bare.spec.id in {spec.id for spec in registry.env_specs()}
    ):
        return NamedEnv(bare.spec.id, bare.spec.kwargs)
    try:
        copy.deepcopy(bare)
    except (AgentGymError, TypeError) as error:
        name = type(bare).__name__
        raise EnvContractError(f"This {name} cannot be copied ({error}): pass the class or a function.") from error
    return lambda: _adapted(copy.deepcopy(bare))
