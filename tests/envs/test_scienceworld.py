"""The ScienceWorld plug-in under `envs/scienceworld/`, played for real where its package and Java are installed."""

import contextlib
import os
import select
import shutil
import tomllib
from pathlib import Path

import pytest

from agentgym_rft import registry
from agentgym_rft.envs.panels import assert_disjoint
from agentgym_rft.errors import ConfigError, DataError, EnvError

PLUGIN = Path(__file__).parents[2] / "envs" / "scienceworld"
FIND = "find-animal/3"

pytestmark = pytest.mark.skipif(not PLUGIN.is_dir(), reason="the plug-in folder is not there")


@pytest.fixture
def entry_point(monkeypatch):
    """The class path of the plug-in, as its `pyproject.toml` names it."""
    pytest.importorskip("scienceworld")
    if shutil.which("java") is None:
        pytest.skip("there is no java")
    monkeypatch.syspath_prepend(str(PLUGIN))
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    return project["entry-points"]["agentgym_rft.envs"]["agentgym/ScienceWorld-v0"]


@pytest.fixture
def env(entry_point):
    env = registry.make(entry_point)
    yield env
    env.close()
    assert env.pid is None


def members(group):
    """The processes of a process group."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[2]) == group:
                yield int(stat.parent.name)


def test_splits_are_the_official_ones(env):
    assert [len(env.task_ids(split)) for split in env.splits] == [3592, 1796, 1819]
    assert env.task_ids("train")[:2] == ["boil/0", "change-the-state-of-matter-of/0"]
    assert env.task_ids("test")[0] == "boil/21"
    assert_disjoint(env, "train", "test")
    assert env.pid is None  # none of this needs a JVM


def test_a_game_is_won_by_the_oracle_and_leaves_no_process(env):
    observation, info = env.reset(options={"task_id": FIND})
    assert observation.startswith(f"{info['goal']}\n\nThis outside location is called the outside.")
    assert (info["task_type"], info["score"], info["won"]) == ("find-animal", 0.0, False)
    oracle, total, terminated = env.oracle(), 0.0, False
    while not terminated:
        observation, reward, terminated, truncated, info = env.step(oracle.act(observation))
        assert not truncated
        total += reward
    assert info["won"] is True
    assert total == pytest.approx(info["score"]) == 1.0
    (jvm,) = (os.pidfd_open(pid) for pid in members(env.pid) if pid != env.pid)
    env.close()
    assert select.select([jvm], [], [], 10)[0] == [jvm]  # readable: it has ended
    os.close(jvm)


def test_focusing_on_a_wrong_thing_loses(env):
    env.reset(options={"task_id": FIND})
    _, _, terminated, _, info = env.step("focus on air")
    assert (terminated, info["won"], info["score"]) == (True, False, 0.0)
    with pytest.raises(EnvError, match="call reset"):
        env.step("look around")


def test_any_text_is_answered_and_what_is_no_command_is_invalid(env):
    env.reset(options={"task_id": FIND})
    for action in ("", "xyzzy", "\ud800\x00", "look\naround the moon", "é大", "a" * 10_000):
        assert env.step(action)[4]["invalid_action"] is True, action
    assert env.step("inventory")[4]["invalid_action"] is False


def test_snapshots_replay_in_another_jvm(env, entry_point):
    env.reset(options={"task_id": "boil/3"})
    for action in ("open door to kitchen", "go to kitchen", "pick up thermometer"):
        env.step(action)
    snapshot = env.snapshot()
    future = [env.step("look around"), env.step("open cupboard")]
    other = registry.make(entry_point)
    other.reset(options={"task_id": FIND})  # another history must not show
    restored = other.restore(snapshot)
    assert restored[0] == "You move the thermometer to the inventory."
    assert [other.step("look around"), other.step("open cupboard")] == future
    other.close()


def test_wrong_options_and_tasks_are_refused_without_a_jvm(entry_point):
    with pytest.raises(ConfigError, match=r"no task 'boyl'\. Did you mean 'boil'\?"):
        registry.make(entry_point, tasks="boyl")
    with pytest.raises(DataError, match="train, dev, test"):
        registry.make(entry_point, split="valid")
    env = registry.make(entry_point, tasks="boil,melt")
    assert {task_id.split("/")[0] for task_id in env.task_ids("dev")} == {"boil", "melt"}
    for unknown in ("boil/30", "boil/-1", "boil/01", "boil", "boyl/1"):
        with pytest.raises(DataError, match=r"There is no task"):
            env.task_content(unknown)
    assert env.pid is None
