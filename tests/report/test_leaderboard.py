import json
import math
import re

import pytest

from agentgym_rft.errors import DataError
from agentgym_rft.report.evaluation import write_evaluation, write_summary
from agentgym_rft.report.leaderboard import board_json, make_boards, named_results, read_result
from agentgym_rft.report.leaderboard_pages import html, make_tables, markdown
from agentgym_rft.report.published import default_path, read_published
from tests.report.results import result

GOOD = result("good", [True, True, True, False])
BAD = result("bad", [True, False, False, False])
BROKEN = result("broken", [None] * 4)


def board(*summaries):
    (found,) = make_boards([(summary["policy"], summary) for summary in summaries])
    return found


def test_results_are_ranked_by_success_and_equals_share_a_rank():
    twin = result("twin", [False, True, True, True])
    entries = board(BAD, BROKEN, GOOD, twin).entries
    assert [(entry.name, entry.rank) for entry in entries] == [("good", 1), ("twin", 1), ("bad", 3), ("broken", None)]


def test_each_is_compared_with_the_first_task_by_task():
    first, second, third = board(GOOD, BAD, BROKEN).entries
    assert first.against_best is None
    assert third.against_best is None
    assert (second.against_best.a, second.against_best.b) == ("bad", "good")
    assert (second.against_best.difference, second.against_best.only_b) == (-0.5, 2)


def test_another_way_of_decoding_is_ranked_but_not_compared():
    sampled = result("sampled", [True, False, False, False], temperature=1.0)
    _, entry = board(GOOD, sampled).entries
    assert (entry.rank, entry.against_best) == (2, None)


def test_results_without_a_common_task_are_ranked_but_not_compared():
    one, other = result("one", [True, True, None]), result("other", [None, None, False])
    assert [entry.against_best for entry in board(one, other).entries] == [None, None]


@pytest.mark.parametrize("change", [{"panel": "cd" * 32}, {"env": "b/B-v0"}, {"max_steps": 9}, {"options": {"n": 2}}])
def test_another_game_has_a_table_of_its_own(change):
    boards = make_boards([("a", GOOD), ("b", result("b", [True] * 4, **change)), ("c", BAD)])
    assert [[entry.name for entry in found.entries] for found in boards] == [["a", "c"], ["b"]]


def test_the_tables_say_what_was_played_and_how():
    text = markdown(make_tables([board(GOOD, BAD, result("script|ed", [True] * 4, card=None, temperature=None))], []))
    lines = text.splitlines()
    assert lines[0] == "## tests/Env-v0, test"
    assert lines[2] == "4 tasks of `test`, panel `abababababababab`, at most 50 steps."
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[4:]]
    assert cells[0][:6] == ["#", "policy", "success", "95 % interval", "to the first, points", "p"]
    assert cells[2][:6] == ["1", "script\\|ed", "100.0 %", "51.0 to 100.0", "-", "-"]
    assert cells[3][:5] == ["2", "good", "75.0 %", "30.1 to 95.4", "-25.0 (-75.0 to +0.0)"]
    assert cells[4][5:] == ["0.25", "0.250", "2.0", "50.0 %", "3", "0", "greedy, card plain@0"]


def test_pass_at_k_has_a_column_where_a_task_was_played_more_than_once():
    sampled = result("s", [[True, False], [False, False]], samples=2, temperature=1.0)
    text = markdown(make_tables([board(sampled)], []))
    assert "| pass@k |" in text
    assert (
        "| temperature 1, 2 samples, card plain@0 | pass@1 25.0 % (0.0 - 50.0), pass@2 50.0 % (0.0 - 100.0) |" in text
    )


def test_published_numbers_stand_apart_with_source_and_protocol(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "rows:\n"
        "  - {env: tests/Env-v0, system: S, success: 72, success_to: 72.8, protocol: p, source: s, basis: memory}\n"
        "  - {env: other/Env-v0, system: T, score: 1.5, protocol: p, source: s, basis: paper}\n"
    )
    rows = read_published(path, ["tests/Env-v0"])
    assert [row.system for row in rows] == ["S"]
    ours, theirs = make_tables([board(GOOD)], rows)
    assert (ours.is_published, theirs.is_published) == (False, True)
    assert theirs.rows == (("S", "-", "-", "72.0 % to 72.8 %", "p", "s", "from memory, not checked"),)
    assert "not measured here" in theirs.note
    page = html([ours, theirs])
    assert page.count("<table>") == 2
    assert page.count('<section class="published">') == 1
    assert "<script" not in page
    assert board_json([board(GOOD)], rows)["published"][0]["system"] == "S"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rows: [{env: e, system: s, source: s, basis: paper}]", "rows.0.protocol: field required"),
        ("rows: [{env: e, system: s, protocol: p, source: '', basis: paper}]", "rows.0.source: string should have"),
        ("rows: [{env: e, system: s, protocol: p, source: s, basis: rumour}]", "rows.0.basis: input should be"),
        ("rows: [{env: e, system: s, success: 101, protocol: p, source: s, basis: paper}]", "rows.0.success"),
        ("[1", "is no YAML file"),
        ("", "the file: input should be"),
    ],
)
def test_a_published_row_without_its_origin_is_refused(tmp_path, text, sentence):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_published(path, ["e"])
    with pytest.raises(DataError, match="Cannot read published results"):
        read_published(tmp_path / "none.yaml", ["e"])


def test_the_shipped_numbers_have_rows_for_both_environments():
    rows = read_published(default_path(), ["agentgym/ALFWorld-v0", "agentgym/WebShop-v0"])
    assert {row.env for row in rows} == {"agentgym/ALFWorld-v0", "agentgym/WebShop-v0"}
    assert all(row.success is not None or row.score is not None for row in rows)


def test_results_come_from_files_and_from_runs_under_a_name_of_choice(tmp_path):
    write_summary(tmp_path / "a=b.json", GOOD)
    write_evaluation(tmp_path / "run", 0, GOOD)
    write_evaluation(tmp_path / "run", 20, BAD)
    found = named_results([f"{tmp_path}/a=b.json", f"grpo={tmp_path}/run"])
    assert [(name, summary["policy"]) for name, summary in found] == [("good", "good"), ("grpo", "bad")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is no result"),
        ("[]", "input should be a valid dictionary"),
        ('{"policy": "p"}', "it has no 'num_tasks'"),
        ("[" * 5000, "nests too many levels"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, content, sentence):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=sentence):
        read_result(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("success",), "no", "its 'success' is 'no': input should be a valid number"),
        (("success",), 7, "its 'success' is 7"),
        (("success_ci95",), [0.5], "its 'success_ci95' is "),
        (("success_ci95", 0), math.nan, "its 'success_ci95.0' is nan: input should be a finite number"),
        (("num_tasks",), -1, "its 'num_tasks' is -1"),
        (("mean_turns",), 10**400, "its 'mean_turns' is "),
        (("protocol", "panel_hash"), None, "its 'protocol.panel_hash' is None"),
        (("tasks", 1, "success"), "no", "its 'tasks.1.success"),
        (("tasks",), [{"success": True, "score": 1.0}], "of 4 tasks it has 1"),
        (("policy",), "\ud800", "its 'policy' is"),
        (("by_type",), [], "its 'by_type' is \\[\\]: input should be a valid dictionary"),
    ],
)
def test_a_result_with_a_value_of_another_type_is_refused(tmp_path, place, value, sentence):
    changed = json.loads(json.dumps(GOOD))
    *path, last = place
    part = changed
    for key in path:
        part = part[key]
    part[last] = value
    (tmp_path / "r.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match=f"r.json' is no result.*{sentence}"):
        read_result(tmp_path / "r.json")


def test_a_result_of_an_older_version_or_none_at_all_is_refused(tmp_path):
    write_summary(tmp_path / "r.json", {key: value for key, value in GOOD.items() if key != "protocol"})
    with pytest.raises(DataError, match="has no 'protocol'"):
        read_result(tmp_path / "r.json")
    with pytest.raises(DataError, match="Cannot read the result"):
        read_result(tmp_path / "none.json")
    with pytest.raises(DataError, match="is no run with an evaluation"):
        read_result(tmp_path)


def test_the_data_of_a_board_is_json_without_rows_by_task():
    body = json.loads(json.dumps(board_json([board(GOOD, BAD)], [])))
    (table,) = body["tables"]
    assert table["protocol"]["panel_hash"] == "ab" * 32
    assert [entry["rank"] for entry in table["entries"]] == [1, 2]
    assert "tasks" not in table["entries"][0]
    assert table["entries"][1]["against_best"]["difference_ci95"] == [-1.0, 0.0]
