"""`agentgym crossplay` and `agentgym eval --seat`: several agents, each with its policy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import agentgym_rft
from agentgym_rft.cli import main as cli
from agentgym_rft.errors import DataError
from agentgym_rft.report.team_pages import crossplay_tables, read_crossplay

ROOT = Path(agentgym_rft.__file__).parent.parent
TEAM = "tests.team_switch:TeamSwitch"
KUHN = "agentgym/KuhnPoker-v0"
ALONE = "tests.light_switch:LightSwitch"


def result(tmp_path, command, *options):
    out = tmp_path / f"{command}.json"
    assert cli.run([command, *map(str, options), "--out", str(out)]) == 0
    return json.loads(out.read_text())


def cells(summary):
    return {(cell["row"], cell["column"]): cell for cell in summary["cells"]}


@pytest.fixture(scope="module")
def kuhn(tmp_path_factory):
    """Three scripts of Kuhn poker, 30 times each deal; and the file."""
    folder = tmp_path_factory.mktemp("kuhn")
    policies = [word for name in ("random", "oracle", "expert") for word in ("--policy", name)]
    return result(folder, "crossplay", "--env", KUHN, *policies, "--samples", 30), folder / "crossplay.json"


def test_each_seat_has_its_policy_and_its_own_result(tmp_path):
    summary = result(
        tmp_path, "eval", "--env", TEAM, "--policy", "oracle", "--seat", "b=random", "--tasks", 10, "--samples", 4
    )
    assert summary["policy"] == "a=oracle, b=random"
    a, b = summary["seats"]["a"], summary["seats"]["b"]
    assert (a["policy"], b["policy"]) == ("oracle", "random")
    assert (a["return"], a["return_ci95"]) == (0.5, [0.5, 0.5])  # red in both of its turns
    assert 0.1 < b["return"] < 0.4  # red in half of them
    assert b["return_ci95"][0] < b["return"] < b["return_ci95"][1]
    assert summary["score"] == pytest.approx(a["return"] + b["return"])
    assert summary["success"] == a["success"] == b["success"]
    assert 0.05 < summary["success"] < 0.5  # a quarter
    assert (a["mean_turns"], summary["mean_turns"]) == (2, 4)


def test_a_role_names_all_its_agents(tmp_path):
    summary = result(tmp_path, "eval", "--env", TEAM, "--seat", "switcher=oracle", "--tasks", 2)
    assert {seat["policy"] for seat in summary["seats"].values()} == {"oracle"}
    assert summary["success"] == 1.0


def test_a_model_plays_beside_a_script(tmp_path, switch_policy):
    place = ("--tasks", 6, "--max-context", 64, "--device", "cpu", "--temperature", 1)
    summary = result(tmp_path, "eval", "--env", TEAM, "--policy", switch_policy, "--seat", "a=oracle", *place)
    assert summary["num_errors"] == 0
    assert summary["seats"]["b"]["policy"] == str(switch_policy)
    assert summary["protocol"]["card"].startswith("plain@")
    assert summary["sampled_tokens"] is None  # a script has none


def test_an_error_of_the_environment_is_counted_not_scored(tmp_path, capsys):
    options = ("--env", TEAM, "--env-option", "fault=step", "--policy", "oracle", "--tasks", "2")
    assert cli.run(["eval", *options]) == 1
    assert "ZeroDivisionError at turn 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--env", TEAM, "--seat", "a=oracle", "--seat", "a=random"), "Two policies for one seat: --seat gives 'a'"),
        (("--env", TEAM, "--seat", "a=oracle", "--seat", "switcher=random"), "both 'oracle' and 'random'"),
        (("--env", TEAM, "--seat", "c=oracle"), "There is no seat 'c'. Known: a, b, switcher."),
        (("--env", TEAM, "--seat", "a=oracle"), "The seat 'b' has no policy: give --seat b=POLICY, or --policy"),
        (("--env", TEAM, "--seat", "oracle"), "--seat is 'oracle'; expected AGENT=POLICY or ROLE=POLICY."),
        (("--env", ALONE, "--policy", "random", "--seat", "a=oracle"), "This environment has one agent"),
        (("--env", TEAM), "Missing option --policy: give it, or --seat for every agent."),
        (("--env", TEAM, "--policy", "openai:big@http://localhost"), "an endpoint plays environments of one agent"),
        (("--env", TEAM, "--policy", "oracle", "--env-option", "fault"), "expected KEY=VALUE"),
    ],
)
def test_wrong_seats_are_refused_in_one_sentence(options, sentence, capsys):
    assert cli.run(["eval", *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--env", TEAM, "--policy", "oracle"), "Cross-play needs at least two policies"),
        (("--env", TEAM, "--policy", "oracle", "--policy", "oracle"), "Two policies are called 'oracle'"),
        (("--env", ALONE, "--policy", "random", "--policy", "expert"), "Cross-play is for several agents"),
        (("--env", TEAM, "--policy", "a=", "--policy", "random"), "expected POLICY or NAME=POLICY"),
    ],
)
def test_a_wrong_cross_play_is_refused_in_one_sentence(options, sentence, capsys):
    assert cli.run(["crossplay", *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_the_matrix_is_what_the_scripts_do(tmp_path):
    policies = ("--policy", "best=oracle", "--policy", "random")
    summary = result(tmp_path, "crossplay", "--env", TEAM, *policies, "--tasks", 12, "--samples", 2)
    found = cells(summary)
    best = found["best", "best"]
    assert (best["row_side"]["return"], best["team"]["success"]) == (0.5, 1.0)
    assert best["row_side"]["return_ci95"] == [0.5, 0.5]
    mixed, mirrored = found["best", "random"], found["random", "best"]
    assert mixed["row_side"]["return"] == mirrored["column_side"]["return"] == 0.5
    assert mixed["column_side"]["return"] < 0.5
    assert mixed["row_side"]["score"] == mixed["column_side"]["score"]  # one goal
    assert summary["seats"] == {"row": ["a"], "column": ["b"]}
    assert summary["ratings"] is None
    assert "same score in every match" in summary["ratings_left_out"]
    assert (tmp_path / "crossplay.svg").read_text().startswith("<svg")


def test_chips_are_won_from_the_other(kuhn):
    summary, _ = kuhn
    for cell in summary["cells"]:
        assert cell["row_side"]["return"] == pytest.approx(-cell["column_side"]["return"])
        assert cell["row_side"]["return_ci95"][0] < cell["row_side"]["return"] < cell["row_side"]["return_ci95"][1]
        assert (cell["num_episodes"], cell["num_errors"]) == (180, 0)
    both = cells(summary)["random", "random"]
    assert (both["row_side"]["score"] + both["column_side"]["score"]) / 2 == pytest.approx(0.5)
    assert abs(both["row_side"]["return"] - 1 / 16) < 0.2  # theory: 1/8 chips, and a reward is half a chip


def test_ratings_and_exploitability_order_the_scripts(kuhn):
    summary, _ = kuhn
    assert [row["policy"] for row in summary["ratings"]] == ["oracle", "expert", "random"]
    scores = [summary["totals"][name]["score"] for name in ("oracle", "expert", "random")]
    assert scores == sorted(scores, reverse=True)
    values = {name: found["values"]["exploitability"] for name, found in summary["exact"].items()}
    assert values == pytest.approx({"expert": 0.0, "random": 11 / 24}, abs=1e-9)


def test_the_result_becomes_tables_of_a_page(kuhn, tmp_path):
    _, path = kuhn
    ranking, matrix = crossplay_tables(read_crossplay(path))
    assert [row[1] for row in ranking.rows] == ["oracle", "expert", "random"]
    assert ranking.headings[-4] == "exploitability"
    assert ranking.rows[1][-4] == "0.0000"
    assert [len(row) for row in matrix.rows] == [4, 4, 4]
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="has no 'env'"):
        read_crossplay(tmp_path / "other.json")


def test_the_same_command_gives_the_same_matrix_in_a_pipe(capsys):
    shown = []
    for names in (("random", "expert"), ("expert", "random")):
        policies = [word for name in names for word in ("--policy", name)]
        assert cli.run(["crossplay", "--env", KUHN, *policies, "--samples", "2"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert cells(shown[0]) == cells(shown[1])
    assert shown[0]["ratings"] == shown[1]["ratings"]


def test_scripts_need_no_torch():
    code = "import sys; from agentgym_rft.cli.main import run; run(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "crossplay", "--env", KUHN, "--policy", "random", "--policy", "expert"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
