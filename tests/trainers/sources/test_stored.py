"""Training on an experience store: while it is filled, when it is complete, and replay beside playing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.errors import ConfigError, DataError, RunError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.store.experience import Accounting, ExperienceStore
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.run import build
from agentgym_rft.trainers.sources.exploring import Exploration, explore
from tests.trainers.test_loop import assert_equal_weights, switch_config

ROOT = Path(__file__).parents[3]
BEHAVIOUR = {"name": "grpo", "options": {"anchor": "behaviour"}}


def on_store(policy, out, *, rollout=None, algorithm=None, trainer=None, **store):
    data = json.loads(switch_config(policy, out, **(trainer or {})).model_dump_json())
    data["rollout"] |= rollout or {}
    return validate_config(data | {"algorithm": algorithm or BEHAVIOUR, "store": {"wait_s": 60, **store}})


@pytest.fixture(scope="module")
def explored(switch_policy, tmp_path_factory):
    """A complete store of 20 groups."""
    out = tmp_path_factory.mktemp("explored")
    config = on_store(switch_policy, out, path=str(out / "s.db"))
    rounds = []
    explore(Exploration(config, 20), is_stopped=lambda: False, on_round=rounds.append)
    assert [each.num_begun for each in rounds] == [8, 16, 20]
    return out / "s.db"


def copied(store, tmp_path):
    """A store of its own, so that its uses are the test's."""
    sqlite3.connect(store).execute(f"VACUUM INTO '{tmp_path / 's.db'}'")
    return str(tmp_path / "s.db")


def test_a_complete_store_is_trained_on_once_and_the_run_ends_with_it(switch_policy, explored, tmp_path):
    path = copied(explored, tmp_path)
    result = train(on_store(switch_policy, tmp_path / "run", path=path, replay_share=1, trainer={"steps": 9}))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["group/num"] for row in rows] == [8, 8, 4]
    assert (result.num_steps, result.is_interrupted, len(result.evaluations)) == (3, False, 2)
    assert ExperienceStore(Path(path)).accounting() == Accounting(20, 20, 0, 20, 0, {})
    assert {row["rollout/generated_tokens"] for row in rows} == {0}
    assert [row["replay/uses_mean"] for row in rows] == [1, 1, 1]


def test_a_run_that_goes_on_takes_the_groups_of_the_steps_it_lost(switch_policy, explored, tmp_path):
    path = copied(explored, tmp_path)
    train(on_store(switch_policy, tmp_path / "run", path=path, replay_share=1, trainer={"steps": 1}))
    store = ExperienceStore(Path(path))
    lost = [group.group_id for group in store.take(1, 8)]  # what a killed second step had taken
    store.close()
    config = on_store(switch_policy, tmp_path / "run", path=path, replay_share=1, trainer={"steps": 2})
    train(config, resume=tmp_path / "run")
    uses = sqlite3.connect(path).execute("SELECT group_id, uses.step FROM uses JOIN groups USING (number)").fetchall()
    assert [name for name, step in uses if step == 1] == lost
    assert max(Counter(name for name, _ in uses).values()) == 1
    train(on_store(switch_policy, tmp_path / "whole", path=path, replay_share=1, trainer={"steps": 2}))
    assert_equal_weights(tmp_path / "run", tmp_path / "whole")


def test_an_exploration_that_was_stopped_goes_on_and_writes_no_group_twice(switch_policy, explored, tmp_path):
    config = on_store(switch_policy, tmp_path, path=str(tmp_path / "s.db"))
    stops = iter([False, True])
    explore(Exploration(config, 20), is_stopped=lambda: next(stops), on_round=lambda _: None)
    store = ExperienceStore(tmp_path / "s.db")
    assert (store.accounting().written, store.is_finished) == (8, False)
    explore(Exploration(config, 20), is_stopped=lambda: False, on_round=lambda _: None)
    assert store.is_finished
    assert store.accounting() == Accounting(20, 0, 20, 0, 0, {})
    whole = ExperienceStore(explored)
    assert store.groups(sorted(store.keys)) == whole.groups(sorted(whole.keys))


def test_a_store_that_nobody_fills_fails_the_run_after_its_deadline(switch_policy, explored, tmp_path):
    path = copied(explored, tmp_path)
    with closing(ExperienceStore(Path(path))) as store:
        store.fill()
    with pytest.raises(RunError, match=r"No group came into '.*s\.db' for 0\.2 s"):
        train(on_store(switch_policy, tmp_path / "run", path=path, replay_share=1, wait_s=0.2))
    assert [row["group/num"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [8, 8]


def test_a_complete_store_without_a_group_is_refused(switch_policy, explored, tmp_path):
    path = copied(explored, tmp_path)
    sqlite3.connect(path, isolation_level=None).execute("DELETE FROM groups")
    with pytest.raises(DataError, match="is complete and has no group to train on"):
        train(on_store(switch_policy, tmp_path / "run", path=path, replay_share=1))


def test_a_store_file_serves_as_stored_trajectories(switch_policy, explored, tmp_path):
    config = on_store(switch_policy, tmp_path / "run", rollout={"stored": str(explored)}, algorithm={"name": "sft"})
    result = train(config)
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.2
    assert ExperienceStore(explored).accounting().uses == 0


def test_explorer_and_trainer_are_two_processes_and_every_group_is_accounted_for(switch_policy, tmp_path):
    path = tmp_path / "s.db"
    trainer = {"steps": 14, "learning_rate": 1e-2}
    config = on_store(switch_policy, tmp_path / "run", path=str(path), replay_share=1, capacity=16, trainer=trainer)
    (tmp_path / "start.yaml").write_text(config.model_dump_json())
    command = [sys.executable, "-m", "agentgym_rft.cli.main", "explore", "--recipe", str(tmp_path / "start.yaml")]
    explorer = subprocess.Popen([*command, f"--follow={tmp_path / 'run'}"], cwd=ROOT)
    try:
        result = train(config)
        assert explorer.wait(timeout=60) == 0
    finally:
        explorer.kill()
        explorer.wait()
    assert result.num_steps == 14
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.3
    store = ExperienceStore(path)
    account = store.accounting()
    assert account.used == account.uses == 14 * 8
    assert account.written == account.used + account.unused
    assert (account.refused, account.dropped) == (0, {})
    versions = [t.policy_version for group in store.groups(store.keys) for each in group.valid for t in each.turns]
    assert min(versions) == -1
    assert max(versions) > 1  # it has taken up checkpoints meanwhile


def test_replay_trains_on_earlier_groups_beside_fresh_ones(switch_policy, tmp_path):
    replay = {"replay_share": 0.25, "max_uses": 3, "rule": "uniform"}
    train(on_store(switch_policy, tmp_path / "run", **replay, trainer={"steps": 5}))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["group/num"] for row in rows] == [6] * 5
    assert [row["replay/share"] for row in rows] == [0, *[0.25] * 4]
    assert rows[1]["replay/staleness_mean"] == 1
    assert rows[1]["replay/uses_mean"] == 2
    assert all(row["rollout/turns"] > 0 for row in rows)
    account = ExperienceStore(tmp_path / "run" / "experience.db").accounting()
    assert account == Accounting(30, 30, 0, 38, 0, {})


def test_a_resumed_run_replays_what_one_that_was_not_stopped_replays(switch_policy, tmp_path):
    replay = {"replay_share": 0.5, "max_uses": None, "rule": "priority", "max_staleness": 3}
    for name, stops in (("whole", (5,)), ("parts", (3, 5))):
        for steps in stops:
            config = on_store(switch_policy, tmp_path / name, **replay, trainer={"steps": steps})
            train(config, resume=tmp_path / name if steps != stops[0] else None)
            lost = ExperienceStore(tmp_path / name / "experience.db")
            lost.take(steps, 2, max_uses=None)  # of a step that was killed before its checkpoint
            lost.close()
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_store_can_be_written_without_being_read(switch_policy, tmp_path):
    train(on_store(switch_policy, tmp_path / "a", path=str(tmp_path / "s.db"), trainer={"steps": 2}))
    train(on_store(switch_policy, tmp_path / "b", trainer={"steps": 2}))
    assert_equal_weights(tmp_path / "a", tmp_path / "b")
    assert ExperienceStore(tmp_path / "s.db").accounting() == Accounting(16, 16, 0, 16, 0, {})


def test_a_store_that_somebody_else_fills_is_refused(switch_policy, explored, tmp_path):
    path = copied(explored, tmp_path)
    with pytest.raises(ConfigError, match="is filled by agentgym explore, not by run other"):
        train(on_store(switch_policy, tmp_path / "other", path=path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replay_share": 1}, "say which with store.path"),
        ({"replay_share": 0.05}, "leaves none to replay"),
        ({"replay_share": 0.5}, "store.max_uses=1 lets no group be replayed"),
        ({"replay_share": 0.5, "max_uses": 2, "rollout": {"stored": "runs/a"}}, "leave one out"),
        ({"replay_share": 1, "path": "s.db", "trainer": {"mode": "async"}}, "nothing is played"),
        ({"replay_share": 0.5, "max_uses": 2, "replay_as": "imitation"}, "'grpo' does not"),
        ({"rollout": {"experts": {"num": 1}}}, "for an algorithm that imitates, such as mix"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(on_store(tmp_path / "no policy", tmp_path / "run", **changes))
