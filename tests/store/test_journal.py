"""The journal of completions, on disk."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.errors import DataError, StorageError
from agentgym_rft.json_text import with_checksum
from agentgym_rft.store.journal import Journal, request_digest, weights_digest
from tests.disk import files_up_to

REQUEST = SampleRequest("3.0/t/1", [1, 2, 3], 8, (7,), 1.0, seed=5)


def completion(number: int, version: int = 0) -> Completion:
    return Completion((number, 7), (-0.1 / (number + 1), -1 / 3), "stop", version)


@pytest.fixture
def opened():
    """What opens a journal that is left open to the end of the test, as by a process that was killed."""
    with ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(closing(Journal(*args, **settings)))


@pytest.fixture
def written(opened):
    """What opens a journal, and writes completions to it."""

    def write(folder: Path, numbers: range, step: int = 0) -> Journal:
        journal = opened(folder, step)
        for number in numbers:
            journal.append("a", f"digest{number}", completion(number))
        return journal

    return write


def test_what_was_appended_is_there_bit_by_bit_for_the_next_process_without_a_close(tmp_path, opened, written):
    written(tmp_path / "journal", range(3))
    recorded = opened(tmp_path / "journal").recorded
    assert recorded == {("a", 0): {f"digest{n}": completion(n) for n in range(3)}}


def test_a_torn_or_damaged_line_is_dropped_and_what_comes_next_is_whole(tmp_path, opened, written):
    written(tmp_path, range(2))
    path = tmp_path / "after-000000.jsonl"
    path.write_bytes(b"\xff[1]\n" + path.read_bytes() + b'["a","digest9",[1')
    journal = opened(tmp_path)
    assert journal.num_recorded == 2
    journal.append("a", "digest2", completion(2))
    assert opened(tmp_path).num_recorded == 3


def test_every_checkpoint_has_a_file_and_those_of_older_ones_go(tmp_path, opened, written):
    journal = written(tmp_path, range(1))
    for step in (10, 20, 30):
        journal.checkpointed(step, keep=2)
        journal.append("a", f"after{step}", completion(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after-000020.jsonl", "after-000030.jsonl"]
    assert set(opened(tmp_path, 30).recorded["a", 0]) == {"after30"}


def test_a_run_that_goes_back_to_an_older_checkpoint_finds_all_that_came_after_it(tmp_path, opened, written):
    journal = written(tmp_path, range(1), step=10)
    journal.checkpointed(20, keep=2)
    journal.append("a", "later", completion(1))
    again = opened(tmp_path, 10)
    assert set(again.recorded["a", 0]) == {"digest0", "later"}
    again.checkpointed(20, keep=2)
    assert set(opened(tmp_path, 20).recorded["a", 0]) == {"later"}


def test_a_new_run_removes_what_is_left_of_another(tmp_path, opened, written):
    written(tmp_path, range(3), step=10)
    assert opened(tmp_path, is_new=True).num_recorded == 0
    assert [path.name for path in tmp_path.iterdir()] == ["after-000000.jsonl"]


@pytest.mark.parametrize(
    "change",
    [
        {"cache_key": "other"},
        {"prompt_ids": [1, 2, 4]},
        {"max_new_tokens": 9},
        {"stop_ids": (7, 8)},
        {"temperature": 0.9},
        {"seed": 6},
    ],
)
def test_the_digest_of_a_request_hangs_on_all_of_it_and_on_the_weights(change):
    assert request_digest(replace(REQUEST, **change), "w") != request_digest(REQUEST, "w")
    assert request_digest(REQUEST, "v") != request_digest(REQUEST, "w")
    assert request_digest(replace(REQUEST, prompt_ids=(1, 2, 3)), "w") == request_digest(REQUEST, "w")


def test_the_digest_of_weights_changes_when_all_of_them_do():
    weights = {"a": torch.randn(300, 40), "b": torch.zeros(3), "c": torch.ones(())}
    same = {name: weights[name].clone() for name in ("c", "b", "a")}
    assert weights_digest(same) == weights_digest(weights)
    for name in weights:
        assert weights_digest({**weights, name: weights[name] + 1e-6}) != weights_digest(weights)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "journal").write_text("")
    with pytest.raises(DataError, match="Cannot write the journal"):
        Journal(tmp_path / "journal")


def test_a_bit_that_flips_loses_its_line_and_changes_none(tmp_path, opened, written):
    written(tmp_path, range(2))
    path = tmp_path / "after-000000.jsonl"
    content, good = path.read_bytes(), opened(tmp_path).recorded["a", 0]
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        journal = Journal(tmp_path)
        journal.close()
        assert journal.recorded.get(("a", 0), {}).items() < good.items(), bit


@pytest.mark.parametrize(
    "line",
    ['["a","d",[1],[-0.1],"stop","0"]', '["a","d",7,[-0.1],"stop",0]', '["a",["d"],[1],[-0.1],"stop",0]', "[" * 5000],
)
def test_a_line_of_other_types_is_dropped_whoever_signed_it(tmp_path, opened, line):
    (tmp_path / "after-000000.jsonl").write_text(with_checksum(line) + "\n")
    assert opened(tmp_path).recorded == {}


def test_a_full_disk_is_said_once_and_not_again_when_the_journal_is_closed(tmp_path, opened, written):
    journal = written(tmp_path, range(2))
    with files_up_to(150):
        with pytest.raises(StorageError, match=r"Cannot write the journal .* File too large"):
            journal.append("a", "digest2", completion(2))
        journal.close()
    assert opened(tmp_path).num_recorded >= 1


def test_a_link_in_the_place_of_a_journal_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("a letter without an end of line")
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "after-000000.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="Cannot write the journal"):
        Journal(tmp_path / "journal")
    assert (tmp_path / "mine").read_text() == "a letter without an end of line"
