from __future__ import annotations

from dataclasses import replace

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.envs.panels import held_out_panel
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.evaluation.panel import (
    EvaluationPlan,
    configured_panel,
    evaluate,
    make_settings,
    open_panel,
    play_panel,
)
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


def leaking(trained_on="train", **section):
    return validate_config({"env": {"id": "tests.cli.eval_envs:Leaking", "split": trained_on}, "eval": section})


def test_the_configured_panel_is_held_out_of_the_split_that_is_trained_on():
    assert configured_panel(CounterEnv(), leaking()).held_out_of == "train"
    assert configured_panel(CounterEnv(), leaking("valid_seen")).held_out_of == "valid_seen"
    assert configured_panel(CounterEnv(), leaking("of another environment")).held_out_of == "train"
    assert configured_panel(CounterEnv(), leaking(split="train")).held_out_of is None


def test_a_run_is_held_out_of_the_split_that_it_trains_on_even_if_that_is_not_listed():
    class Unlisted(CounterEnv):
        splits = ("valid_seen", "valid_unseen")

        def task_content(self, task_id):
            return super().task_content(task_id.replace("train", "valid_unseen"))

    with pytest.raises(DataError, match="Splits 'train' and 'valid_unseen' overlap"):
        configured_panel(Unlisted(), leaking("train"), whole_split=True)
    own = configured_panel(Unlisted(), leaking("train", split="train"), whole_split=True)
    assert own.held_out_of is None


def test_only_the_tasks_of_the_panel_must_be_held_out():
    with pytest.raises(DataError, match="task 'valid_unseen-1' of 'valid_unseen' has the same content as 'train-2'"):
        open_panel(leaking(), {"oracle"})
    assert open_panel(leaking(num_tasks=1), {"oracle"}).task_ids == ("valid_unseen-0",)


def test_a_frozen_panel_gets_the_options_that_are_played():
    frozen = held_out_panel(CounterEnv(goal=4), {}, "valid_unseen", env_id="tests.envs.counter_env:CounterEnv")
    config = validate_config({"env": {"id": frozen.env_id, "options": {"goal": 4}}})
    assert open_panel(config, set(), frozen) == replace(frozen, options={"goal": 4})
    with pytest.raises(ConfigError, match="has no oracle"):
        open_panel(config, {"oracle"}, frozen)


def test_a_panel_of_which_every_episode_broke_says_why():
    config = validate_config({"env": {"id": "tests.envs.counter_env:CounterEnv"}, "eval": {"max_steps": 5}})
    panel = open_panel(config, set())
    settings = make_settings(config, "script", None, is_scripted=True)

    def result(script):
        return play_panel(text_workers(CounterEnv, scripted(script), max_concurrency=2), config, panel, settings)

    broken = result("expert")  # which the environment lacks
    assert broken.problem.reason.startswith("ended with an error: ")
    assert broken.summary["num_errors"] == 3
    assert result("random").problem is None
