"""The rule of the environment contract about other processes: workers make an environment by its name and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check.subject import NamedEnv, Observed, Subject, record, replay, require, require_equal
from agentgym_rft.envs.panels import panel_hash
from agentgym_rft.envs.process.env import ProcessEnv

_NUM_TASKS = 20


def other_processes_play_the_same(subject: Subject) -> str:
    """Check that a process that makes the environment by name and options has the same tasks, plays the same and takes
    snapshots.

    Unless PYTHONHASHSEED is set, Python hashes texts with another seed there, so the order of a set differs.
    """
    maker = subject.factory
    if not isinstance(maker, NamedEnv):
        return "not checked, because it is made by a function: pass a name or a class at the top level of a module"
    env = subject.make()
    elsewhere = ProcessEnv(maker.id, maker.options, timeout_s=subject.settings.timeout_s / 2)
    try:
        _compare_tasks(env, elsewhere)
        _compare_episodes(subject, env, elsewhere)
    finally:
        elsewhere.close()
    return ""


def _compare_tasks(env: TextEnv, elsewhere: TextEnv) -> None:
    for split in env.splits:
        ids = list(env.task_ids(split))
        require(ids == list(elsewhere.task_ids(split)), f"task_ids('{split}') differs in another process.")
        first = ids[:_NUM_TASKS]
        require(
            panel_hash(env, first) == panel_hash(elsewhere, first),
            f"task_content differs in another process, for one of the first {len(first)} tasks of '{split}'.",
        )


def _compare_episodes(subject: Subject, env: TextEnv, elsewhere: TextEnv) -> None:
    actions, seen = record(env, subject.start(env, seed=11), 11)
    again = [subject.start(elsewhere, seed=11), *replay(elsewhere, actions)]
    require_equal(_plain(seen), _plain(again), "an episode played in another process differs")
    if env.can_snapshot:
        subject.start(env, seed=11)
        cut = len(actions) // 2
        replay(env, actions[:cut])
        restored = Observed.from_restore(elsewhere, env.snapshot())
        before = seen[cut].as_restored()
        what = "a snapshot restored in another process"
        require_equal(_plain([before]), _plain([restored]), f"{what} does not give the same observation and info")
        require_equal(
            _plain(seen[cut + 1 :]), _plain(replay(elsewhere, actions[cut:])), f"{what} continues differently"
        )


def _plain(seen: Sequence[Observed]) -> list[Observed]:
    """Return what passes between processes: no books, and of info the reprs, as objects may not be equal there."""
    return [replace(each, info={key: repr(value) for key, value in each.info.items()}, books=None) for each in seen]
