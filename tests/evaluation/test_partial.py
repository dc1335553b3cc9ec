import json
from contextlib import closing

import pytest

from agentgym_rft.errors import ConfigError, DataError, StorageError
from agentgym_rft.evaluation.partial import PartialEvaluation
from tests.disk import files_up_to
from tests.report.results import trajectory

SETTINGS = {"panel_hash": "ab", "temperature": 0.0, "options": {"level": 2}}
FIRST, SECOND = trajectory("a", True), trajectory("b", None)


@pytest.fixture
def path(tmp_path):
    """A file with two episodes."""
    path = tmp_path / "out.json.partial.jsonl"
    partial = PartialEvaluation(path, SETTINGS)
    partial.append(FIRST, 1.25)
    partial.append(SECOND, 2.5)
    partial.close()
    return path


def test_finished_episodes_and_their_time_come_back(path):
    partial = PartialEvaluation(path, SETTINGS)
    assert list(partial.finished) == ["a#0", "b#0"]
    assert partial.finished["a#0"] == FIRST
    assert partial.finished["b#0"].info["error"]["message"] == "mug"
    assert partial.elapsed_s == 2.5
    partial.append(trajectory("c", False), 4.0)
    partial.close()
    again = PartialEvaluation(path, SETTINGS)
    assert list(again.finished) == ["a#0", "b#0", "c#0"]
    again.remove()
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 5, 200])
def test_a_line_that_was_cut_off_is_dropped_and_written_anew(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    partial = PartialEvaluation(path, SETTINGS)
    assert list(partial.finished) == ["a#0"]
    partial.append(SECOND, 3.0)
    partial.close()
    with closing(PartialEvaluation(path, SETTINGS)) as again:
        assert list(again.finished) == ["a#0", "b#0"]


@pytest.mark.parametrize("content", [b"", b'{"format": "agentgym-par'])
def test_a_file_that_was_cut_off_in_its_head_begins_anew(path, content):
    path.write_bytes(content)
    with closing(PartialEvaluation(path, SETTINGS)) as partial:
        assert partial.finished == {}
    assert json.loads(path.read_text())["settings"] == SETTINGS


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({**SETTINGS, "temperature": 1.0}, "temperature = 0.0, now it is 1.0"),
        ({**SETTINGS, "options": {"level": 3}}, "options = {'level': 2}, now it is {'level': 3}"),
        ({**SETTINGS, "seed": 1}, "seed = None, now it is 1"),
    ],
)
def test_other_settings_are_refused_and_the_episodes_kept(path, settings, sentence):
    before = path.read_bytes()
    with pytest.raises(ConfigError) as refused:
        PartialEvaluation(path, settings)
    assert sentence in str(refused.value)
    assert path.read_bytes() == before


def test_a_second_evaluation_with_the_same_file_is_refused(path):
    partial = PartialEvaluation(path, SETTINGS)
    with pytest.raises(ConfigError, match="Another evaluation is writing to"):
        PartialEvaluation(path, SETTINGS)
    partial.close()
    PartialEvaluation(path, SETTINGS).close()


def test_a_damaged_line_or_another_kind_of_file_is_refused(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "1.0 {}", lines[2], ""]))
    with pytest.raises(DataError, match=r"Line 2 of .* is damaged"):
        PartialEvaluation(path, SETTINGS)
    for other in ("notes\n", "[]\n", '{"format": "x"}\n'):
        path.write_text(other)
        with pytest.raises(DataError, match="is no evaluation under way"):
            PartialEvaluation(path, SETTINGS)
    assert path.read_text() == '{"format": "x"}\n'


def test_a_bit_that_flips_in_an_episode_is_refused(path):
    content = path.read_bytes()
    start = content.index(b"\n") + 1
    for bit in range(8 * start, 8 * (len(content) - 1), 7):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"Line \d of .* is damaged"):
            PartialEvaluation(path, SETTINGS)


@pytest.mark.parametrize("head", ["3", '{"settings": 3}', "[" * 5000])
def test_a_head_of_other_types_is_refused(path, head):
    path.write_text(f"{head}\n")
    with pytest.raises(DataError, match="is no evaluation under way"):
        PartialEvaluation(path, SETTINGS)


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(DataError, match="Cannot write"):
        PartialEvaluation(tmp_path / "none" / "x", SETTINGS)


def test_a_full_disk_is_said_once_and_the_episodes_before_are_kept(path):
    partial = PartialEvaluation(path, SETTINGS)
    with files_up_to(path.stat().st_size + 10):
        with pytest.raises(StorageError, match="The finished episodes before are kept: make room, and the same"):
            partial.append(trajectory("c", False), 4.0)
        partial.close()
    with closing(PartialEvaluation(path, SETTINGS)) as again:
        assert list(again.finished) == ["a#0", "b#0"]


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("a letter")
    (tmp_path / "out.json.partial.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="Cannot write"):
        PartialEvaluation(tmp_path / "out.json.partial.jsonl", SETTINGS)
    assert (tmp_path / "mine").read_text() == "a letter"
