import json
from contextlib import closing

import numpy as np
import pytest

from agentgym_rft.errors import DataError
from agentgym_rft.report.metrics import MetricsWriter, column, read_metrics


def _write(path, steps):
    writer = MetricsWriter(path)
    for step in steps:
        writer.write({"step": step, "episode/success": step / 10})
    writer.close()


def test_written_rows_are_read_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, [1, 2])
    assert read_metrics(path) == [{"step": 1, "episode/success": 0.1}, {"step": 2, "episode/success": 0.2}]


def test_a_row_is_on_disk_before_the_writer_is_closed(tmp_path):
    writer = MetricsWriter(tmp_path / "m.jsonl")
    writer.write({"step": 1})
    assert len(read_metrics(tmp_path / "m.jsonl")) == 1
    writer.close()


def test_a_torn_last_line_is_left_out_and_written_over_on_resume(tmp_path):
    path = tmp_path / "m.jsonl"
    _write(path, [1, 2])
    with path.open("a") as file:
        file.write('{"step": 3, "episode/su')
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    writer = MetricsWriter(path, last_step=2)
    writer.write({"step": 3})
    writer.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_rows_beyond_the_resumed_step_are_dropped(tmp_path):
    path = tmp_path / "m.jsonl"
    _write(path, [1, 2, 3, 4])
    MetricsWriter(path, last_step=2).close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_a_new_run_starts_an_empty_file(tmp_path):
    path = tmp_path / "m.jsonl"
    _write(path, [1, 2])
    MetricsWriter(path).close()
    assert read_metrics(path) == []


def test_resuming_without_a_file_starts_one(tmp_path):
    MetricsWriter(tmp_path / "m.jsonl", last_step=5).close()
    assert read_metrics(tmp_path / "m.jsonl") == []


def test_damage_before_the_last_line_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"Line 2 of '.*m\.jsonl' is no metrics row"):
        read_metrics(path)
    path.write_text('{"loss": 1}\n')
    with pytest.raises(DataError, match=r"Line 1 .* it has no 'step'"):
        read_metrics(path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"step": "1"}', "its 'step' is '1': input should be a valid integer"),
        ('{"step": 1, "loss/total": 1e200}', "its 'loss/total' is larger than 1e.100"),
        ("[1]", "input should be a valid dictionary"),
        ("[" * 5000, "nests too many levels"),
        ('{"step": 1' + "0" * 30 + "}", "less than or equal to"),
    ],
)
def test_a_row_of_other_types_is_refused(tmp_path, line, sentence):
    (tmp_path / "m.jsonl").write_text(f"{line}\n")
    with pytest.raises(DataError, match=rf"Line 1 of '.*m\.jsonl' is no metrics row: .*{sentence}"):
        read_metrics(tmp_path / "m.jsonl")


def test_numbers_that_json_does_not_know_become_null_and_numpy_numbers_plain(tmp_path):
    writer = MetricsWriter(tmp_path / "m.jsonl")
    writer.write({"step": np.int64(1), "a": float("nan"), "b": np.float32("inf"), "c": np.float32(0.5), "d": "x"})
    writer.close()
    assert read_metrics(tmp_path / "m.jsonl") == [{"step": 1, "a": None, "b": None, "c": 0.5, "d": "x"}]


def test_a_row_without_step_is_refused(tmp_path):
    with closing(MetricsWriter(tmp_path / "m.jsonl")) as writer, pytest.raises(ValueError, match="needs a 'step'"):
        writer.write({"loss": 1.0})


def test_a_column_skips_rows_without_the_metric():
    rows = [{"step": 1, "a": 2}, {"step": 2}, {"step": 3, "a": None}, {"step": 4, "a": 0.5}]
    assert column(rows, "a") == ([1.0, 4.0], [2.0, 0.5])
