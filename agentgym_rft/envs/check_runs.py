"""Rules of the environment contract about whole episodes: determinism, isolation, endings, snapshots."""

from __future__ import annotations

import random

import numpy as np

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check_subject import (
    MAX_EPISODE_STEPS,
    Observed,
    RandomActor,
    Subject,
    fail,
    play,
    replay,
    require,
    require_equal,
)
from agentgym_rft.errors import EnvError

_NUM_STEPS = 20
_ODD_TEXTS = (
    "",
    " \t\n",
    "\x00\x01\x7f",
    "go to the moon 1",
    "take {0} %s from $HOME",
    "Größe 大小 🏠 \u202e",
    "\ud800",
    "<action>look</action>",
    '{"action": null}',
    "look\nlook\nlook",
    "a" * 10_000,
)


def same_seed_gives_the_same_episode(subject: Subject) -> None:
    """Equal seeds and actions give equal episodes, in two instances and twice in one."""
    first, second = subject.make(), subject.make()
    starts = [Observed.from_reset(*env.reset(seed=7)) for env in (first, second)]
    require_equal(starts[:1], starts[1:], "two instances reset with seed 7 differ")
    log = play(first, starts[0], RandomActor(7), _NUM_STEPS)
    actions, expected = [action for action, _ in log], [seen for _, seen in log]
    require_equal(expected, replay(second, actions), "two instances with the same seed and actions differ")
    again = Observed.from_reset(*first.reset(seed=7))
    require_equal(starts[:1], [again], "an instance reset again with its seed differs")
    require_equal(expected, replay(first, actions), "an instance played again with its seed and actions differs")


def global_generators_are_left_alone(subject: Subject) -> None:
    """Episodes neither read nor change the global generators of `random` and numpy: each env has its own."""
    python_state, numpy_state = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    try:
        first, second = (_episode_under_global_seed(subject, seed) for seed in (1, 2))
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    require(first == second, "an episode depends on a global random generator; give the environment its own.")


def _episode_under_global_seed(subject: Subject, seed: int) -> list[Observed]:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    env = subject.make()
    start = Observed.from_reset(*env.reset(seed=3))
    episode = [start, *(seen for _, seen in play(env, start, RandomActor(3), _NUM_STEPS))]
    drawn = (random.random(), np.random.random_sample())  # noqa: NPY002
    untouched = (random.Random(seed).random(), np.random.RandomState(seed).random_sample())
    require(
        drawn == untouched, "an episode draws from or seeds a global random generator; give the environment its own."
    )
    return episode


def instances_do_not_share_state(subject: Subject) -> None:
    """Two instances stepped in turns each play as if alone."""
    tasks = subject.tasks()
    alone = [_episode(subject, task_id, seed) for seed, task_id in enumerate((tasks[0], tasks[-1]))]
    envs = [subject.new(task_id, seed)[0] for seed, task_id in enumerate((tasks[0], tasks[-1]))]
    together: list[list[Observed]] = [[], []]
    for point in range(max(len(log) for log in alone)):
        for index, env in enumerate(envs):
            if point < len(alone[index]):
                together[index].append(Observed.from_step(env, alone[index][point][0]))
    for index in (0, 1):
        expected = [seen for _, seen in alone[index]]
        require_equal(expected, together[index], "an instance plays differently while another one is stepped")


def _episode(subject: Subject, task_id: str, seed: int) -> list[tuple[str, Observed]]:
    env, start = subject.new(task_id, seed)
    return play(env, start, RandomActor(seed), _NUM_STEPS)


def returned_info_is_a_copy(subject: Subject) -> None:
    """Changing a returned info does not change the episode."""
    log = _episode(subject, subject.tasks()[0], 0)
    env = subject.make()
    _, info = env.reset(seed=0, options={"task_id": subject.tasks()[0]})
    seen = []
    for action, _ in log:
        for value in info.values():
            if isinstance(value, list):
                value.clear()
        info.clear()
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(Observed(observation, {}, reward, terminated, truncated))
    expected = [Observed(s.observation, {}, s.reward, s.terminated, s.truncated) for _, s in log]
    require_equal(expected, seen, "an episode changes when the info it returned is changed")


def any_text_is_an_action(subject: Subject) -> None:
    """Any text is answered, never with an exception: what a language model writes is data."""
    for text in _ODD_TEXTS:
        env, _ = subject.new()
        try:
            seen = Observed.from_step(env, text)
        except Exception as error:  # any error here breaks the rule
            fail(f"the action {text[:40]!r} raises {type(error).__name__}: {error}.")
        require(isinstance(seen.observation, str), f"the action {text[:40]!r} is not answered with text.")


def episodes_end_and_stay_ended(subject: Subject) -> None:
    """Every episode ends, and a step after its end raises `EnvError`."""
    env, start = subject.new()
    log = play(env, start, RandomActor(0), MAX_EPISODE_STEPS)
    require(
        bool(log) and log[-1][1].is_over, f"an episode did not end within {MAX_EPISODE_STEPS} steps; add a step limit."
    )
    try:
        env.step("look")
    except EnvError:
        return
    except Exception as error:  # whatever it is, it is the wrong one
        fail(f"a step after the end raises {type(error).__name__}, expected EnvError.")
    fail("a step after the end of the episode is answered, expected EnvError.")


def snapshots_continue_the_episode(subject: Subject) -> None:
    """A restored snapshot continues as the original does, in this and in another instance, as often as wanted."""
    env = subject.new()[0]
    if not env.can_snapshot:
        _refuses_snapshots(env)
        return
    for num_steps in (0, 1, 2, 5):
        for seed in range(3):
            _check_snapshot(subject, seed, num_steps)


def _check_snapshot(subject: Subject, seed: int, num_steps: int) -> None:
    env, start = subject.new(seed=seed)
    at = [start, *(seen for _, seen in play(env, start, RandomActor(seed), num_steps))][-1]
    if at.is_over:
        return
    snapshot = env.snapshot()
    require(isinstance(snapshot, bytes), f"snapshot gives a {type(snapshot).__name__}, expected bytes.")
    future = play(env, at, RandomActor(seed + 100), _NUM_STEPS)
    actions, expected = [action for action, _ in future], [seen for _, seen in future]
    for what, target in (("another instance", subject.make()), ("the same instance", env)):
        restored = Observed.from_reset(*target.restore(snapshot))
        before = Observed(at.observation, at.info)
        require_equal([before], [restored], f"restore in {what} does not give the observation and info of the snapshot")
        require_equal(expected, replay(target, actions), f"a snapshot restored in {what} continues differently")


def _refuses_snapshots(env: TextEnv) -> None:
    try:
        env.snapshot()
    except EnvError:
        return
    fail("can_snapshot is False, but snapshot works; set can_snapshot = True.")
