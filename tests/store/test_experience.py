"""The experience store: written once, read while written, every use accounted for."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym_rft.core import Group, StopReason, Trajectory
from agentgym_rft.errors import ConfigError, DataError, StorageError
from agentgym_rft.store.experience import Accounting, ExperienceStore, priority
from agentgym_rft.store.stored_groups import STORED_VERSION, open_groups
from tests.disk import files_up_to
from tests.trainers.turns import group_of, turn


def group(name, *returns, version=0):
    return group_of(*([turn(value, policy_version=version)] for value in returns), group=name)


@pytest.fixture
def store(tmp_path):
    store = ExperienceStore(tmp_path / "s.db", "words")
    yield store
    store.close()


def filled(store, *groups):
    for number, each in enumerate(groups):
        assert store.write(each, step=number)
    return store


def test_a_group_comes_back_as_it_was_written_with_its_auxiliary_trajectories(store):
    written = group_of([turn(1.0)], [turn()], auxiliary=[turn(tokens=3, last_version=2)], infos=[{"won": True}, {}])
    store.write(written)
    assert store.groups(store.keys) == [written]
    assert store.max_token_id == 5


def test_a_group_is_written_once_and_a_second_write_is_refused_and_counted(store):
    assert store.write(group("a", 1, 0))
    assert not store.write(group("a", 0, 0))
    assert store.accounting() == Accounting(written=1, used=0, unused=1, uses=0, refused=1, dropped={})
    assert store.groups(["a"]) == [group("a", 1, 0)]


def test_a_group_of_errors_is_dropped_with_its_reason(store):
    broken = Group("e", "t", (Trajectory("t", "e", "e0", (), StopReason.ENV_ERROR),))
    assert not store.write(broken)
    assert store.accounting() == Accounting(0, 0, 0, 0, 0, {"no_valid_trajectory": 1})


def test_no_group_is_taken_twice_and_the_account_adds_up(store):
    filled(store, *(group(f"g{n}", 1, 0) for n in range(5)))
    taken = [each.group_id for step in range(4) for each in store.take(step, 2)]
    assert taken == ["g0", "g1", "g2", "g3", "g4"]
    assert store.accounting() == Accounting(written=5, used=5, unused=0, uses=5, refused=0, dropped={})
    assert store.num_waiting() == 0


def test_with_more_uses_the_least_used_come_first(store):
    filled(store, *(group(f"g{n}", 1, 0) for n in range(3)))
    taken = [[each.group_id for each in store.take(step, 2, max_uses=2)] for step in range(4)]
    assert taken == [["g0", "g1"], ["g2", "g0"], ["g1", "g2"], []]
    assert store.use_counts(["g0", "g1", "g2"]) == [2, 2, 2]


def test_uses_of_lost_steps_are_given_back(store):
    filled(store, *(group(f"g{n}", 1, 0) for n in range(4)))
    first = store.take(0, 2)
    lost = store.take(1, 2)
    assert store.forget_uses(after_step=0) == 2
    assert store.take(1, 2) == lost
    assert {each.group_id for each in first} == {"g0", "g1"}
    row = sqlite3.connect(store.path).execute("SELECT use_count, last_used_step FROM groups WHERE group_id = 'g2'")
    assert row.fetchone() == (1, 1)


def test_stale_groups_are_dropped_with_a_count_that_lost_steps_give_back(store):
    filled(store, group("old", 1, 0, version=0), group("new", 1, 0, version=3))
    assert [each.group_id for each in store.take(4, 2, max_staleness=2)] == ["new"]
    assert store.accounting() == Accounting(2, 1, 0, 1, 0, {"stale": 1})
    store.forget_uses(after_step=1)
    assert {each.group_id for each in store.take(2, 2, max_staleness=2)} == {"old", "new"}


def test_the_priority_is_signal_by_freshness_by_uses_and_the_view_shows_it(store):
    assert priority(True, age=0, use_count=0) == pytest.approx(1.05)
    assert priority(True, age=1, use_count=2) == pytest.approx(1.05 / 6)
    assert priority(False, age=3, use_count=0) == pytest.approx(0.05 / 4)
    filled(store, group("a", 1, 0, version=1), group("b", 1, 1, version=4))
    store.take(5, 1)
    other = sqlite3.connect(store.path)
    shown = dict(other.execute("SELECT group_id, priority FROM experience"))
    assert shown == {"a": pytest.approx(priority(True, 3, 1)), "b": pytest.approx(priority(False, 0, 0))}


def of_two_agents(*episodes, name):
    """Return a group of episodes of two agents; each episode is given as the returns of both."""
    pairs = [([turn(first)], [turn(second)]) for first, second in episodes]
    made = group_of(*(turns for pair in pairs for turns in pair), group=name)
    agents = ("first", "second") * len(episodes)
    return replace(
        made, trajectories=tuple(replace(t, agent_id=a) for t, a in zip(made.trajectories, agents, strict=True))
    )


def test_returns_that_differ_between_agents_alone_are_no_signal(store):
    always_lost = of_two_agents((1, -1), (1, -1), name="always lost")
    won_once = of_two_agents((1, -1), (-1, 1), name="won once")
    filled(store, always_lost, won_once)
    rows = sqlite3.connect(store.path).execute("SELECT group_id, has_signal FROM groups").fetchall()
    assert dict(rows) == {"always lost": 0, "won once": 1}


def test_priority_prefers_groups_with_signal_and_the_seed_decides(store):
    filled(store, *(group(f"g{n}", 1, n % 2) for n in range(40)))
    draws = [[each.group_id for each in store.take(7, 10, "priority", seed=seed, max_uses=None)] for seed in (1,)]
    store.forget_uses(6)
    again = [each.group_id for each in store.take(7, 10, "priority", seed=1, max_uses=None)]
    assert draws == [again]
    assert sum(int(name[1:]) % 2 == 0 for name in again) >= 8
    store.forget_uses(6)
    assert again != [each.group_id for each in store.take(7, 10, "priority", seed=2, max_uses=None)]


def test_groups_of_lost_steps_are_removed_for_a_run_that_plays_them_again(store):
    filled(store, *(group(f"g{n}", 1, 0) for n in range(4)))
    store.mark_used(["g0", "g3", "never written"], 3)
    assert store.forget_groups(after_step=1) == 2
    assert store.keys == ["g0", "g1"]
    assert store.accounting().uses == 1
    assert store.write(group("g3", 1, 0), step=3)


def test_it_is_read_by_others_while_a_group_is_being_written(store):
    filled(store, group("a", 1, 0))
    reader = ExperienceStore(store.path)
    with store._transaction():
        store._db.execute("DELETE FROM groups")
        assert reader.groups(reader.keys) == [group("a", 1, 0)]
        assert reader.accounting().written == 1
    assert reader.keys == []


def test_a_kill_in_a_write_loses_that_group_and_nothing_else(store, tmp_path):
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from agentgym_rft.store import experience\n"
        "from tests.store.test_experience import group\n"
        "store = experience.ExperienceStore(Path(sys.argv[1]), 'words')\n"
        "whole = experience.group_bytes\n"
        "def dying(each):\n"
        "    if each.group_id == 'g3': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return whole(each)\n"
        "experience.group_bytes = dying\n"
        "for n in range(9): store.write(group(f'g{n}', 1, 0), n)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(store.path)], cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL
    assert store.keys == ["g0", "g1", "g2"]
    assert sqlite3.connect(store.path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert store.write(group("g3", 1, 0), 3)
    assert store.groups(["g2", "g3"]) == [group("g2", 1, 0), group("g3", 1, 0)]


def test_many_who_open_a_new_file_at_once_make_one_store(tmp_path):
    def write(number):
        store = ExperienceStore(tmp_path / "s.db", "words")
        for n in range(5):
            store.write(group(f"{number}.{n}", 1, 0))
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    with closing(ExperienceStore(tmp_path / "s.db")) as store:
        assert len(store.keys) == 40


def test_two_runs_cannot_train_on_one_store(store):
    other = ExperienceStore(store.path)
    with store.training():
        assert not other.reader_left
        with pytest.raises(ConfigError, match="Another run is training on"), other.training():
            pass
    assert other.reader_left
    with other.training():
        assert not other.reader_left


def test_two_programs_cannot_fill_one_store(store):
    store.fill("agentgym explore")
    with pytest.raises(ConfigError, match="Another program is filling the experience store"):
        ExperienceStore(store.path).fill("run x")
    assert (store.owner, store.is_finished) == ("agentgym explore", False)
    store.close()
    with closing(ExperienceStore(store.path)) as other:
        other.fill("run x")
        assert other.owner == "run x"


def test_a_store_of_another_tokenizer_is_refused(store):
    with pytest.raises(DataError, match="of another tokenizer"):
        ExperienceStore(store.path, "other words")


def test_what_is_no_store_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(DataError, match="There is no experience store"):
        ExperienceStore(tmp_path / "absent.db")
    (tmp_path / "text").write_text("a text that is no database" * 100)
    with pytest.raises(DataError, match="cannot be used as an experience store"):
        ExperienceStore(tmp_path / "text", "words")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.commit()
    with pytest.raises(DataError, match="is no experience store, expected one of format 2"):
        ExperienceStore(tmp_path / "other.db", "words")


def test_a_damaged_body_is_refused_by_name(store):
    store.write(group("a", 1, 0))
    sqlite3.connect(store.path, isolation_level=None).execute("UPDATE bodies SET body = x'00ff'")
    with pytest.raises(DataError, match=r"s\.db: a' is damaged, or no trajectory file"):
        store.groups(["a"])


def test_the_state_of_who_plays_is_kept_with_the_group(store):
    assert store.state is None
    store.write(group("a", 1, 0), 0, {"begun": 4})
    assert ExperienceStore(store.path).state == {"begun": 4}
    store._set("state", "[4]")
    with pytest.raises(ValueError, match="input should be a valid dictionary"):
        assert ExperienceStore(store.path).state


def test_a_store_is_offline_data_whose_turns_are_of_no_current_version(store):
    with pytest.raises(DataError, match="has no group yet"):
        open_groups(store.path)
    written = group_of([turn(1.0, policy_version=3)], [turn()], auxiliary=[turn(last_version=4)])
    store.write(written)
    stored = open_groups(store.path)
    (found,) = stored.groups(stored.keys)
    turns = [t for each in (*found.trajectories, *found.auxiliary) for t in each.turns]
    assert {(t.policy_version, t.last_version) for t in turns} == {(STORED_VERSION, None)}
    assert replace(found, trajectories=(), auxiliary=()) == replace(written, trajectories=(), auxiliary=())


def used_store(path):
    """A store with a row of every kind, in one file."""
    store = filled(ExperienceStore(path, "words"), *(group(f"g{n}", n, 0, version=n) for n in range(4)))
    store.take(3, 2)
    store.drop("g3", "unwanted", 3)
    store.finish()
    store.close()
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("UPDATE groups SET mean_return = 0.25 WHERE group_id = 'g1'", "row g1 of its table 'groups' has changed"),
        ("UPDATE groups SET use_count = 7 WHERE group_id = 'g2'", "row 3 of its table 'groups' does not fit"),
        ("UPDATE groups SET last_used_step = 9 WHERE group_id = 'g0'", "row 1 of its table 'groups' does not fit"),
        ("DELETE FROM bodies WHERE number = 2", "row 2 of its table 'groups' does not fit its body"),
        ("UPDATE bodies SET body = 3 WHERE number = 2", "row 2 of its table 'groups' does not fit its body"),
        ("UPDATE uses SET step = 4", "of its table 'uses' has changed"),
        ("UPDATE drops SET reason = 'wanted'", "row g3 of its table 'drops' has changed"),
        ("UPDATE meta SET value = '0' WHERE key = 'finished'", "row finished of its table 'meta' has changed"),
        ("DROP TRIGGER given_back", "its tables are others"),
    ],
)
def test_a_row_that_changed_is_refused_by_table_and_row(tmp_path, change, sentence):
    path = used_store(tmp_path / "s.db")
    ExperienceStore(path, "words").close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(change)
    with pytest.raises(DataError, match=rf"^The experience store '{path}' is damaged: .*{sentence}"):
        ExperienceStore(path, "words")


def test_a_body_of_another_group_is_refused(tmp_path):
    path = used_store(tmp_path / "s.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE bodies SET body = (SELECT body FROM bodies WHERE number = 2) WHERE number = 1")
    with pytest.raises(DataError, match="'g0' holds 'g1'"):
        ExperienceStore(path).groups(["g0"])


def test_no_single_bit_that_flips_is_read_as_other_content(tmp_path):
    path = used_store(tmp_path / "s.db")
    content, written, num_refused = path.read_bytes(), all_of(path), 0
    for bit in range(0, 8 * len(content), 311):  # the whole file is in benchmarks/faults_damage.py
        for left in tmp_path.glob("s.db*"):
            left.unlink()
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert all_of(path) == written, bit
        except DataError:
            num_refused += 1
    assert num_refused > 50  # most of the file's pages are empty


def test_a_store_that_is_refused_is_left_open_by_nothing(tmp_path):
    path = used_store(tmp_path / "s.db")
    path.write_bytes(path.read_bytes().replace(b"newest_version INTEGER", b"newest_versio\xff INTEGER"))
    with pytest.raises(DataError, match="decode") as refused:  # whose traceback is still there
        ExperienceStore(path, "words")
    left = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert not [name for name in left if str(path) in name], refused


def all_of(path):
    """All that a store tells."""
    store = ExperienceStore(path, "words")
    try:
        counts = (store.use_counts(store.keys), store.mean_returns(9), store.num_waiting(), store.max_token_id)
        return store.keys, store.groups(store.keys), store.accounting(), store.is_finished, counts
    finally:
        store.close()


def test_a_store_of_another_format_is_refused_with_it(store):
    store._set("format", "1")
    with pytest.raises(DataError, match="is an experience store of format 1, expected one of format 2"):
        ExperienceStore(store.path)


def test_a_full_disk_is_a_storage_error_and_leaves_what_was_there(store):
    filled(store, group("a", 1, 0))
    many = group("b", *range(500))
    size = store.path.with_name("s.db-wal").stat().st_size
    refused = pytest.raises(StorageError, match=r"Cannot write to '.*s.db': .*\. What is in it is unchanged: make room")
    with refused, store.training(), files_up_to(size):
        store.write(many)
    assert store.keys == ["a"]
    assert store.write(many)
    assert store.groups(["b"]) == [many]


def test_a_link_in_the_place_of_its_lock_is_not_followed(store):
    store.path.with_name("s.db.lock").symlink_to(store.path.with_name("made"))
    with pytest.raises(OSError, match="symbolic"), store.training():
        pass
    assert not store.path.with_name("made").exists()
