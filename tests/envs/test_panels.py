import hashlib

import pytest

from agentgym_rft import registry
from agentgym_rft.envs.panels import assert_disjoint, load_panel
from agentgym_rft.errors import DataError
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
