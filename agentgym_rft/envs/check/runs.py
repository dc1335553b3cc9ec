"""Rules of the environment contract about whole episodes: determinism, isolation, endings."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.envs.check.process_state import process_state
from agentgym_rft.envs.check.subject import (
    MAX_EPISODE_STEPS,
    Observed,
    RandomActor,
    Subject,
    books_of,
    fail,
    play,
    raised,
    record,
    replay,
    require,
    require_equal,
    require_refused,
)
from agentgym_rft.errors import EnvError

_NUM_LONG = 200


def same_seed_gives_the_same_episode(subject: Subject) -> None:
    """Check that equal seeds and actions give equal episodes, in two instances and twice in one."""
    first, second = subject.make(), subject.make()
    actions, expected = record(first, Observed.from_reset(first, seed=7), 7)
    for what, env in (("another instance", second), ("the same instance", first)):
        again = Observed.from_reset(env, seed=7)
        require_equal(expected[:1], [again], f"a reset with the same seed in {what} differs")
        require_equal(
            expected[1:], replay(env, actions), f"an episode with the same seed and actions in {what} differs"
        )


def action_logs_replay(subject: Subject) -> None:
    """Check that long episodes are played again from seed, task and actions, in an instance that played others
    before.
    """
    first, second = subject.make(), subject.make()
    record(second, subject.start(second, subject.tasks()[-1], seed=9), 9)
    for seed in range(5):
        actions, expected = record(first, subject.start(first, seed=seed), seed, _NUM_LONG)
        again = [subject.start(second, seed=seed), *replay(second, actions)]
        require_equal(expected, again, "the replay of an action log in a used instance differs")


def global_generators_are_left_alone(subject: Subject) -> None:
    """Check that episodes neither read nor change the global generators of `random` and numpy: each env has its own."""
    python_state, numpy_state = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    try:
        first, second = (_episode_under_global_seed(subject, seed) for seed in (1, 2))
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    require(first == second, "an episode depends on a global random generator; give the environment its own.")


def the_working_directory_is_left_alone(subject: Subject) -> None:
    """Check that an episode ends in the folder in which it began: paths of others are relative to it."""
    env = subject.make()
    record(env, subject.start(env), 0)
    after = process_state().directory
    os.chdir(subject.before.directory)
    require(after == subject.before.directory, "an episode changes the working directory; use absolute paths.")


def the_process_is_left_alone(subject: Subject) -> None:
    """Check that Ctrl-C and SIGTERM stay the run's, and no thread that the interpreter waits for is left by `close`."""
    env = subject.make()
    record(env, subject.start(env), 0)
    subject.close_all()
    after = process_state()
    for number, handler in subject.before.handlers.items():
        if after.handlers[number] != handler:
            signal.signal(number, handler)
            fail(f"an episode changes what {number.name} does; leave signals to the run.")
    left = sorted(thread.name for thread in after.threads - subject.before.threads)
    require(not left, f"close leaves {', '.join(left)} running, for which Python waits at the end; make it a daemon.")


def _episode_under_global_seed(subject: Subject, seed: int) -> list[Observed]:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    env = subject.make()
    _, episode = record(env, Observed.from_reset(env, seed=3), 3)
    drawn = (random.random(), np.random.random_sample())  # noqa: NPY002
    untouched = (random.Random(seed).random(), np.random.RandomState(seed).random_sample())
    require(
        drawn == untouched, "an episode draws from or seeds a global random generator; give the environment its own."
    )
    return episode


def instances_do_not_share_state(subject: Subject) -> None:
    """Check that two instances stepped in turns each play as if alone."""
    envs = [subject.make(), subject.make()]
    starts = list(enumerate((subject.tasks()[0], subject.tasks()[-1])))
    alone = [record(envs[seed], subject.start(envs[seed], task_id, seed), seed) for seed, task_id in starts]
    together = [[subject.start(envs[seed], task_id, seed)] for seed, task_id in starts]
    for actions in zip_longest(*(actions for actions, _ in alone)):
        for seen, env, action in zip(together, envs, actions, strict=True):
            if action is not None:
                seen.append(Observed.from_step(env, action))
    for (_, expected), seen in zip(alone, together, strict=True):
        require_equal(expected, seen, "an instance plays differently while another one is stepped")


def calls_may_come_from_any_thread(subject: Subject) -> None:
    """Check that an episode is the same when its calls come from different threads, one at a time, as with
    deadlines.
    """
    env, start = subject.new(seed=4)
    actions, expected = record(env, start, 4)

    def elsewhere(action: str | None) -> Observed:
        with ThreadPoolExecutor(1) as thread:
            if action is None:
                return thread.submit(subject.start, env, None, 4).result()
            return thread.submit(Observed.from_step, env, action).result()

    try:
        seen = [elsewhere(action) for action in (None, *actions)]
    except Exception as error:  # any error here breaks the rule
        fail(f"a call from another thread raises {raised(error)}.")
    require_equal(expected, seen, "an episode differs when its calls change threads")


def returned_info_is_a_copy(subject: Subject) -> None:
    """Check that changing a returned info does not change the episode."""
    env, start = subject.new()
    actions, played = record(env, start, 0)
    observation, info = env.reset(seed=0, options={"task_id": subject.tasks()[0]})
    seen = [Observed(observation, {}, books=books_of(env))]
    for action in actions:
        for value in info.values():
            if isinstance(value, list):
                value.clear()
        info.clear()
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(Observed(observation, {}, reward, terminated, truncated, books_of(env)))
    require_equal(
        [replace(each, info={}) for each in played], seen, "an episode changes when the info it returned is changed"
    )


def wins_end_the_episode_with_full_score(subject: Subject) -> str:
    """Check that a win terminates the episode and has score 1; terminated and truncated are never both true.

    What several agents win together may have a lower score: the mean of what each got.
    Random episodes, and one each of the oracle and the expert where there is one.
    """
    env = subject.make()
    for seed in range(5):
        for _, seen in play(env, subject.start(env, seed=seed), RandomActor(seed), MAX_EPISODE_STEPS):
            _check_ending(seen)
    players = {
        "oracle": lambda observation: env.oracle(),
        "expert": lambda observation: env.expert(observation, np.random.default_rng(0)),
    }
    return ", ".join(_outcome(subject, env, name, player) for name, player in players.items())


def _outcome(subject: Subject, env: TextEnv, name: str, make_player: Callable[[str], Expert]) -> str:
    """Return the end of a scripted player's episode."""
    seen = subject.start(env)
    try:
        player = make_player(seen.observation)
    except EnvError:
        return f"no {name}"
    for _ in range(MAX_EPISODE_STEPS):
        if seen.is_over:
            break
        seen = Observed.from_step(env, player.act(seen.observation))
        _check_ending(seen)
    return f"{name} wins" if seen.info["won"] else f"{name} scores {seen.info['score']:.2f}"


def _check_ending(seen: Observed) -> None:
    won, score = seen.info["won"], seen.info["score"]
    require(
        not (seen.terminated and seen.truncated),
        "terminated and truncated are both True; an episode that ended was not cut short.",
    )
    require(seen.terminated or not won, "info['won'] is True but terminated is False; a win ends the episode.")
    is_shared = len(seen.info.get("agents", ())) > 1  # what several win together may be worth less than all to each
    require(not won or score == 1 or is_shared, f"info['won'] is True but info['score'] is {score}; a win has score 1.")


def episodes_end_and_stay_ended(subject: Subject) -> str:
    """Check that every episode ends; a step before the first reset or after the end raises `EnvError`; reset begins
    anew.
    """
    env = subject.make()
    lengths = []
    for seed in range(3):
        start = subject.start(env, seed=seed)
        log = play(env, start, RandomActor(seed), MAX_EPISODE_STEPS)
        require(
            bool(log) and log[-1][1].is_over,
            f"an episode did not end within {MAX_EPISODE_STEPS} steps; add a step limit.",
        )
        require_refused(lambda: env.step("look"), "a step after the end")
        lengths.append(len(log))
        require_equal([start], [subject.start(env, seed=seed)], "an instance reset after the end of an episode differs")
    if subject.is_fresh:
        require_refused(lambda: subject.make().step("look"), "a step before the first reset")
    return f"random episodes of {min(lengths)} to {max(lengths)} steps"
