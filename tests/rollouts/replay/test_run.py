"""Stored episodes played again from their action logs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentgym_rft.core import StopReason, Trajectory
from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.replay.run import Setting, replay
from agentgym_rft.store.trajectories import trajectory_line, trajectory_of_line
from tests.rollouts.ladder import CARD, Climber, Ladder, play, report, spec_for, workers

SETTING = Setting(Ladder, CARD)


def stored(trajectory: Trajectory) -> Trajectory:
    """As it comes back from a file."""
    return trajectory_of_line(trajectory_line(trajectory))


def episode(actions: tuple[str, ...] = ("up", "down", "up"), **limits: Any) -> Trajectory:
    pool = workers(Climber(actions, ""))
    spec = replace(spec_for(pool), seed=7, **limits)
    return stored(pool.run(lambda: pool.play(spec)))


def tampered(trajectory: Trajectory, number: int, **changes: Any) -> Trajectory:
    """With fields of one turn, or entries of its info, replaced."""
    turn = trajectory.turns[number]
    fields = {key: value for key, value in changes.items() if key in type(turn).__slots__}
    info = {**turn.info, **{key: value for key, value in changes.items() if key not in fields}}
    turns = [*trajectory.turns]
    turns[number] = replace(turn, info=info, **fields)
    return replace(trajectory, turns=tuple(turns))


@pytest.mark.parametrize(
    ("actions", "stop"),
    [
        (("up",), StopReason.SUCCESS),
        (("up", "down"), StopReason.STEP_LIMIT),
        (("up", "left", "x" * 200, "down"), StopReason.STEP_LIMIT),
    ],
)
def test_an_episode_of_a_deterministic_environment_is_identical(actions, stop):
    trajectory = episode(actions)
    assert trajectory.stop_reason is stop
    result = replay([trajectory], replace(SETTING, chat=workers(Climber(("up",), "")).chat))
    assert (result.difference, result.note) == (None, "")


def test_rewards_are_compared_without_the_penalty_that_the_run_took_off_them():
    trajectory = episode(("left", "up"), invalid_penalty=0.25)
    assert replay([trajectory], replace(SETTING, invalid_penalty=0.25)).difference is None
    found = replay([trajectory], SETTING).difference
    assert str(found) == "turn 0, reward: expected -0.25, got 0.0"


@pytest.mark.parametrize(
    ("number", "changes", "what", "turn"),
    [
        (1, {"observation": "Rung 9 after 1 moves."}, "observation", 1),
        (1, {"text": "down", "action": "down"}, "observation", 2),
        (2, {"reward": 1.0}, "reward", 2),
        (2, {"state_key": "0.0"}, "state_key", 2),
        (0, {"invalid_action": "refused"}, "invalid_action", 0),
        (0, {"action": "down"}, "action", 0),
        (1, {"action_ids": (5, 6)}, "text of the reply", 1),
        (1, {"context_ids": (5, 6)}, "context_ids", 1),
        (1, {"restart": True}, "restart of the row", 1),
    ],
)
def test_a_tampered_turn_is_found(number, changes, what, turn):
    trajectory = tampered(episode(("up", "up", "down")), number, **changes)
    chat = workers(Climber(("up",), "")).chat if {"action_ids", "context_ids", "restart"} & changes.keys() else None
    found = replay([trajectory], replace(SETTING, chat=chat)).difference
    assert (found.what, found.turn) == (what, turn)


@pytest.mark.parametrize(("key", "value"), [("won", True), ("score", 0.5), ("last_observation", "The roof.")])
def test_a_tampered_end_is_found(key, value):
    trajectory = episode(("up", "down"))
    found = replay([replace(trajectory, info={**trajectory.info, key: value})], SETTING).difference
    assert (found.turn, found.what, found.expected) == (None, key.replace("_", " "), value)
    found = replay([replace(trajectory, stop_reason=StopReason.SUCCESS)], SETTING).difference
    assert found.what == "stop reason"


def test_turns_after_the_end_of_the_episode_are_found():
    trajectory = episode(("up",))
    found = replay([replace(trajectory, turns=(*trajectory.turns, trajectory.turns[-1]))], SETTING).difference
    assert (found.turn, found.what) == (3, "end of the episode")


class Moody(Ladder):
    """Tells how many episodes were begun in this process: no two are alike."""

    num_episodes = 0

    def reset(self, *, seed=None, options=None):
        Moody.num_episodes += 1
        return super().reset(seed=seed, options=options)

    def see(self):
        mood = f" Day {Moody.num_episodes}." if self.moves == 2 else ""
        return super().see() + mood


def test_a_nondeterministic_environment_is_found():
    pool = workers(Climber(("up",), ""), Moody)
    trajectory = stored(pool.run(lambda: pool.play(spec_for(pool))))
    found = replay([trajectory], replace(SETTING, make_env=Moody)).difference
    assert str(found).startswith("turn 2, observation: expected 'Rung 2 after 2 moves. Day 1.', got 'Rung 2")


class Breaking(Ladder):
    """Breaks on the third move."""

    def step(self, action):
        if self.moves == 2:
            raise ZeroDivisionError("the ladder broke")
        return super().step(action)


def test_an_environment_that_breaks_only_now_or_only_then_is_found():
    found = replay([episode(("up",))], replace(SETTING, make_env=Breaking)).difference
    assert str(found) == "turn 2, error: expected 'no error', got 'ZeroDivisionError: the ladder broke'"
    pool = workers(Climber(("up",), ""), Breaking)
    trajectory = stored(pool.run(lambda: pool.play(spec_for(pool))))
    assert trajectory.stop_reason is StopReason.ENV_ERROR
    result = replay([trajectory], replace(SETTING, make_env=Breaking))
    assert result.difference is None
    assert result.note == "the action that led to ZeroDivisionError is not stored"


@pytest.mark.parametrize("distill", [True, False])
def test_retries_are_replayed_from_the_beginning_of_their_parent(distill):
    pool = workers(Climber(("up", "down"), report(1), ("up",)))
    base, retry = play(pool, distill=distill).trajectories
    assert (retry.parent_id, retry.fork_turn) == (base.episode_id, 1)
    result = replay([stored(retry)], replace(SETTING, chat=pool.chat))
    assert result.difference is None
    assert result.note == ("" if distill else "token ids from turn 1 on follow a guidance that is not stored")
    assert retry.info["reset_seed"] == base.info["reset_seed"]


def test_what_is_no_action_log_is_refused():
    trajectory = episode()
    old = replace(trajectory, info={key: value for key, value in trajectory.info.items() if key != "reset_seed"})
    with pytest.raises(DataError, match="has no reset_seed: it was stored by version"):
        replay([old], SETTING)
    bare = replace(trajectory, turns=tuple(replace(turn, info={}) for turn in trajectory.turns))
    with pytest.raises(DataError, match="it is no action log"):
        replay([bare], SETTING)
