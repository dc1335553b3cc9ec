import hashlib
import json

import pytest

from agentgym_rft import registry
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.envs.panels import (
    assert_disjoint,
    assert_held_out,
    checked_panel,
    held_out_panel,
    lasting_options,
    load_panel,
    panel_hash,
    panel_text,
    quoted_split,
    read_panel,
)
from agentgym_rft.errors import DataError, NoTasksError
from tests.envs.counter_env import CounterEnv


class Overlapping(CounterEnv):
    def task_content(self, task_id):
        return super().task_content("train-2" if task_id == "valid_seen-1" else task_id)


class Changed(CounterEnv):
    def task_content(self, task_id):
        return super().task_content(task_id) + b"!"


class Empty(CounterEnv):
    def task_ids(self, split):
        return []


def test_a_panel_is_the_first_tasks_with_a_hash_over_ids_and_contents():
    panel = load_panel(CounterEnv(goal=3), "train", 2)
    first = hashlib.sha256(b"count to 3: train-0").hexdigest()
    second = hashlib.sha256(b"count to 3: train-1").hexdigest()
    assert panel.task_ids == ("train-0", "train-1")
    assert panel.panel_hash == hashlib.sha256(f"train-0\0{first}\ntrain-1\0{second}\n".encode()).hexdigest()
    assert panel.env_id == "tests.envs.counter_env:CounterEnv"
    assert len(panel) == 2


def test_a_panel_of_more_tasks_than_there_are_is_the_whole_split():
    assert len(load_panel(CounterEnv(), "valid_seen", 200)) == 2
    assert load_panel(CounterEnv(), "valid_seen", 200) == load_panel(CounterEnv(), "valid_seen")


def test_the_hash_changes_with_content_and_length():
    hashes = {load_panel(CounterEnv(), "train", n).panel_hash for n in (1, 2, 3)}
    assert len(hashes | {load_panel(Changed(), "train", 2).panel_hash}) == 4


def test_a_made_environment_gives_its_id():
    registry.register_env("tests/Panel-v0", CounterEnv)
    assert load_panel(registry.make("panel"), "train", 1).env_id == "tests/Panel-v0"


def test_an_empty_or_unknown_split_is_refused():
    with pytest.raises(DataError, match="Split 'train' of Empty has no tasks"):
        load_panel(Empty(), "train")
    with pytest.raises(DataError, match="no split 'test'"):
        load_panel(CounterEnv(), "test")


def test_disjoint_splits_pass_and_a_shared_task_is_named():
    assert_disjoint(CounterEnv(), "train", "valid_seen")
    with pytest.raises(DataError, match=r"task 'valid_seen-1' of 'valid_seen' has the same content as 'train-2'"):
        assert_disjoint(Overlapping(), "train", "valid_seen")
    assert_disjoint(Overlapping(), "train", "valid_seen", num_tasks=1)


class Leaking(CounterEnv):
    """A test task has the content of a training task."""

    def task_content(self, task_id):
        return super().task_content("train-2" if task_id == "valid_unseen-1" else task_id)


class OneChanged(CounterEnv):
    """One task is another one."""

    def task_content(self, task_id):
        return super().task_content(task_id) + (b"!" if task_id == "valid_unseen-1" else b"")


class Fewer(CounterEnv):
    """A task is gone."""

    def task_content(self, task_id):
        if task_id == "valid_unseen-2":
            raise DataError("There is no task 'valid_unseen-2'.")
        return super().task_content(task_id)


@pytest.fixture
def frozen():
    return held_out_panel(CounterEnv(goal=4), {"goal": 4}, "valid_unseen", env_id="tests/C-v0")


@pytest.fixture
def path(tmp_path, frozen):
    path = tmp_path / "panel.json"
    path.write_text(panel_text(frozen))
    return path


def test_a_panel_comes_back_from_its_file(path, frozen):
    assert read_panel(path) == frozen
    assert (frozen.options, frozen.held_out_of, len(frozen)) == ({"goal": 4}, "train", 3)
    assert frozen.panel_hash == load_panel(CounterEnv(goal=4), "valid_unseen").panel_hash
    assert len(path.read_text().splitlines()) == 14  # a line a task
    checked_panel(CounterEnv(goal=4), frozen)


def test_a_panel_may_be_the_first_tasks_and_one_of_the_training_split_is_held_out_of_nothing():
    panel = held_out_panel(CounterEnv(), {}, "train", 2, env_id="tests/C-v0")
    assert (panel.task_ids, panel.held_out_of) == (("train-0", "train-1"), None)
    checked_panel(CounterEnv(), panel)


class WithoutTrain(CounterEnv):
    """The data have no training tasks."""

    def task_ids(self, split):
        return [] if split == "train" else super().task_ids(split)


def test_a_panel_without_training_tasks_beside_it_says_that_it_was_not_compared(frozen):
    env = WithoutTrain(goal=4)
    said = "That the tasks are held out of 'train' could not be checked: Split 'train' of WithoutTrain has no tasks."
    for panel in (held_out_panel(env, {}, "valid_unseen", env_id="tests/C-v0"), checked_panel(env, frozen)):
        assert (panel.held_out_of, panel.unchecked, len(panel)) == (None, said, 3)
    with pytest.raises(NoTasksError, match="'train'"):  # a run trains on them
        held_out_panel(env, {}, "valid_unseen", env_id="tests/C-v0", whole_split=True)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (CounterEnv(goal=3), "Task 'valid_unseen-0' of tests/C-v0 is not the one of the panel"),
        (OneChanged(goal=4), "Task 'valid_unseen-1' of tests/C-v0 is not the one of the panel"),
        (Fewer(goal=4), "The panel's task 'valid_unseen-2' is not in tests/C-v0: There is no task"),
    ],
)
def test_a_task_that_is_not_as_it_was_frozen_is_named(frozen, env, sentence):
    with pytest.raises(DataError) as refused:
        checked_panel(env, frozen)
    assert sentence in str(refused.value)


def test_a_panel_that_leaks_from_training_is_refused_when_frozen_and_when_loaded():
    with pytest.raises(DataError, match=r"'train' and 'valid_unseen' overlap: task 'valid_unseen-1' .* 'train-2'"):
        held_out_panel(Leaking(), {}, "valid_unseen", env_id="tests/C-v0")
    panel = load_panel(Leaking(), "valid_unseen", env_id="tests/C-v0")
    with pytest.raises(DataError, match="overlap"):
        assert_held_out(Leaking(), panel, "train")
    assert_held_out(Leaking(), load_panel(Leaking(), "valid_unseen", 1), "train")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "other"}, "is no panel. Expected a file that"),
        ({"version": 2}, "has version 2, expected 1"),
        ({"tasks": []}, "damaged panel: its 'tasks' is []"),
        ({"tasks": [{"id": "a", "content": "b"}]}, "panel_hash is not that of its tasks"),
        ({"tasks": [{"id": "a"}]}, "damaged panel: it has no 'tasks.0.content'"),
        ({"tasks": None}, "damaged panel: its 'tasks' is None"),
    ],
)
def test_a_file_that_was_changed_is_refused(path, change, sentence):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError) as refused:
        read_panel(path)
    assert sentence in str(refused.value)


def test_what_is_no_panel_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="Cannot read the panel"):
        read_panel(tmp_path / "none.json")
    (tmp_path / "panel.json").write_text("{")
    with pytest.raises(DataError, match="is no panel"):
        read_panel(tmp_path / "panel.json")


def test_options_that_change_no_result_are_left_out():
    assert lasting_options(CounterEnv(goal=3), {"goal": 3}) == {}
    assert lasting_options(CounterEnv(goal=5), {"goal": 5, "max_steps": 30}) == {"goal": 5}
    given = {"data": "/games", "split": "valid_seen", "render_mode": "ansi", "admissible": False}
    assert lasting_options(ALFWorldEnv(admissible=False), given) == {"admissible": False}


def test_options_that_an_id_stands_for_last_too():
    registry.register_env("tests/CounterTo9-v0", CounterEnv, kwargs={"goal": 9})
    assert lasting_options(registry.make("counterto9"), {}) == {"goal": 9}
    assert lasting_options(registry.make("counterto9", goal=3), {"goal": 3}) == {}


def test_results_are_quoted_on_the_last_split_unless_another_is_given():
    assert quoted_split(CounterEnv(), None) == "valid_unseen"
    assert quoted_split(CounterEnv(), "train") == "train"


def test_alfworlds_panels_have_the_hashes_that_results_quote():
    env = ALFWorldEnv()
    assert load_panel(env, "valid_unseen").panel_hash.startswith("60294c7e76c9b1d1")
    assert panel_hash(env, env.task_ids("valid_unseen")).startswith("60294c7e76c9b1d1")
