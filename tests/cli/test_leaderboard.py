"""`agentgym leaderboard`: real results ranked and compared."""

from __future__ import annotations

import json

import pytest

from agentgym_rft.cli import main as cli
from agentgym_rft.report.evaluation import write_summary
from tests.report.results import result

ALFWORLD = "agentgym/ALFWorld-v0"


@pytest.fixture
def files(tmp_path):
    """Results of two players on one panel, and of one on another."""
    made = {
        "good": result("good", [True] * 9 + [False], env=ALFWORLD),
        "bad": result("bad", [True] + [False] * 9, env=ALFWORLD),
        "other": result("other", [True], panel="cd" * 32),
    }
    for name, summary in made.items():
        write_summary(tmp_path / f"{name}.json", summary)
    return {name: str(tmp_path / f"{name}.json") for name in made}


def test_results_are_ranked_in_markdown_html_and_json(files, tmp_path, capsys):
    out = tmp_path / "board"
    assert cli.run(["leaderboard", f"r3l={files['bad']}", files["good"], files["other"], "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}/leaderboard.md\n"
    text = (out / "leaderboard.md").read_text()
    assert text.index("| 1 | good | 90.0 %") < text.index("| 2 | r3l | 10.0 %")
    assert "-80.0 (-100.0 to -50.0) | 0.0078 |" in text
    assert text.index("## tests/Env-v0, test") < text.index("## Published elsewhere: agentgym/ALFWorld-v0")
    assert "arXiv 2601.03715" in text
    page = (out / "leaderboard.html").read_text()
    assert page.count("<table>") == 3
    data = json.loads((out / "leaderboard.json").read_text())
    assert [len(table["entries"]) for table in data["tables"]] == [2, 1]
    assert {row["env"] for row in data["published"]} == {ALFWORLD}


def test_without_a_folder_the_tables_are_printed_and_a_file_of_ones_own_is_published(files, tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text("rows: [{env: tests/Env-v0, system: Mine, success: 5, protocol: p, source: s, basis: paper}]\n")
    assert cli.run(["leaderboard", files["other"], "--published", str(own)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Leaderboard\n")
    assert "| Mine | - | - | 5.0 % | p | s | from the paper itself |" in out


def test_two_results_are_compared_task_by_task(files, capsys):
    assert cli.run(["leaderboard", "--compare", files["good"], files["bad"]]) == 0
    out = capsys.readouterr().out
    assert "A - B: +80.0 points, 95 % interval +50.0 to +100.0 (paired bootstrap over 10 tasks)" in out
    assert "won by A alone 8, by B alone 0: McNemar's exact p = 0.00781" in out


def test_two_results_of_one_policy_are_compared_under_their_paths(files, capsys):
    assert cli.run(["leaderboard", "--compare", files["good"], files["good"]]) == 0
    assert f"A = {files['good']}: success 90.0 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--compare", "good", "other"], "they were played on different panels: abab"),
        (["good", "--compare", "good", "bad"], "--compare takes its two results itself"),
        ([], "Give the results to rank"),
        (["none.json"], "Cannot read the result 'none.json'"),
        (["good", "--out", "/proc/x"], "Cannot write to '/proc/x'"),
        (["good", "--published", "/no/p.yaml"], "Cannot read published results from '/no/p.yaml'"),
    ],
)
def test_what_cannot_be_ranked_or_compared_is_refused(files, capsys, args, sentence):
    assert cli.run(["leaderboard", *(files.get(arg, arg) for arg in args)]) == 2
    assert sentence in capsys.readouterr().err
