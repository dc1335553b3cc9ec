from __future__ import annotations

from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate
from agentgym_rft.evaluation.players import text_workers
from agentgym_rft.rollouts.episode.players import scripted
from tests.envs.counter_env import CounterEnv

TASKS = ("train-0", "train-1", "train-2")


def played(samples: int, **more):
    workers = text_workers(CounterEnv, scripted("random"), max_concurrency=2)
    return evaluate(workers, EvaluationPlan(TASKS, 1.0, 7, 10, samples), **more)


def actions(trajectory):
    return [turn.info["action"] for turn in trajectory.turns]


def test_every_task_is_played_as_often_as_asked_in_the_order_of_the_panel():
    trajectories = played(3)
    assert [t.task_id for t in trajectories] == [task for task in TASKS for _ in range(3)]
    assert [t.episode_id for t in trajectories[:3]] == ["eval/train-0", "eval/train-0#1", "eval/train-0#2"]
    assert len({tuple(actions(t)) for t in trajectories}) > 3


def test_the_first_sample_is_that_of_an_evaluation_with_one():
    assert [actions(t) for t in played(3)[::3]] == [actions(t) for t in played(1)]


def test_what_is_finished_is_not_played_again_and_what_ends_is_told_once():
    whole = {t.episode_id: t for t in played(2)}
    kept = dict(list(whole.items())[:4])
    ended = []
    again = played(2, finished=kept, on_finished=ended.append)
    assert [t.episode_id for t in again] == list(whole)
    assert all(again[n] is list(kept.values())[n] for n in range(4))
    assert sorted(t.episode_id for t in ended) == sorted(whole.keys() - kept.keys())
    assert [actions(t) for t in again] == [actions(t) for t in whole.values()]
