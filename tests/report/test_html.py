import sys
import xml.etree.ElementTree as ET

import pytest

from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.report.evaluation import write_evaluation
from agentgym_rft.report.html import charts, write_report
from agentgym_rft.report.metrics import MetricsWriter, read_metrics
from agentgym_rft.report.plots import learning_curves, moving_mean
from agentgym_rft.report.svg import Series, line_chart, ticks
from agentgym_rft.store.trajectories import TrajectoryWriter
from tests.report.test_evaluation import PANEL, SETTINGS, TRAJECTORIES, summarise


def _run_dir(path):
    path.mkdir()
    (path / "config.yaml").write_text("env:\n  id: <b>agentgym/ALFWorld-v0</b>\n")
    writer = MetricsWriter(path / "metrics.jsonl")
    for step in range(1, 6):
        writer.write({"step": step, "episode/success": step / 10, "entropy/mean": 1 / step})
    writer.close()
    write_evaluation(path, 0, summarise(TRAJECTORIES, PANEL, SETTINGS))
    write_evaluation(path, 5, summarise(TRAJECTORIES, PANEL, SETTINGS))
    turn = Turn(
        (), (1,), (-1.0,), info={"observation": "You see a <script>.", "text": "open \ud800", "invalid_action": ""}
    )
    lost = [Trajectory(f"lost-{n}", "g", f"l{n}", (turn,), StopReason.FAILURE) for n in range(9)]
    won = [Trajectory("won-1", "g", "w", (turn,), StopReason.SUCCESS, rewards={"env": 1.0})]
    broken = Trajectory("x", "g", "x", (), StopReason.ENV_ERROR, info={"error": {"message": "no mug"}})
    writer = TrajectoryWriter(path / "trajectories")
    writer.write(4, [broken])
    writer.write(5, [*lost, *won])
    return path


def test_a_report_holds_curves_evaluations_trajectories_and_configuration(tmp_path):
    path = write_report(_run_dir(tmp_path / "run"))
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "run" / "report.html"
    assert page.count("<svg") == 2
    assert "after step 5: 50.0 %" in page
    assert "won-1: success" in page
    assert "lost-0: failure" in page
    assert "lost-8" not in page
    assert "&lt;b&gt;agentgym/ALFWorld-v0" in page


def test_a_report_runs_no_script_and_loads_nothing(tmp_path):
    page = write_report(_run_dir(tmp_path / "run")).read_text(encoding="utf-8")
    assert "You see a &lt;script&gt;." in page
    for tag in ("<script", "<link", "src=", "@import", "url("):
        assert tag not in page


def test_an_errored_trajectory_shows_its_error(tmp_path):
    run_dir = _run_dir(tmp_path / "run")
    (run_dir / "trajectories" / "step_000005.jsonl.zst").unlink()
    assert "no mug" in write_report(run_dir).read_text(encoding="utf-8")


def test_a_run_that_has_just_begun_has_a_report(tmp_path):
    (tmp_path / "config.yaml").write_text("run: {seed: 0}\n")
    assert "No step is recorded yet." in write_report(tmp_path).read_text()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no run directory"):
        write_report(tmp_path)


def test_charts_are_well_formed_and_hold_every_point(tmp_path):
    run_dir = _run_dir(tmp_path / "run")
    evaluations = [(0, summarise(TRAJECTORIES, PANEL, SETTINGS)), (5, summarise(TRAJECTORIES, PANEL, SETTINGS))]
    success = ET.fromstring(charts(read_metrics(run_dir / "metrics.jsonl"), evaluations)[0])
    tag = "{http://www.w3.org/2000/svg}"
    points = [line.get("points").split() for line in success.iter(f"{tag}polyline")]
    assert [len(line) for line in points] == [5, 2]
    assert points[0][-1] == "628.0,127.0"  # success 0.5 halfway between the top at 26 and the bottom at 228
    assert "valid_unseen" in [text.text for text in success.iter(f"{tag}text")]


def test_a_chart_of_nothing_is_empty_and_one_of_a_single_value_is_drawn():
    assert line_chart("none", [Series("a", [], [])]) == ""
    assert "polyline" in line_chart("one <&>", [Series("a", [3], [2.0])])
    ET.fromstring(line_chart("one <&>", [Series("<a>", [3], [2.0])]))


def test_ticks_are_round_numbers_inside_the_range():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(1, 60) == pytest.approx([20, 40, 60])
    assert ticks(-0.013, 0.019) == pytest.approx([-0.01, 0, 0.01])


def test_learning_curves_are_drawn_to_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    rows = read_metrics(_run_dir(tmp_path / "run") / "metrics.jsonl")
    learning_curves({"seed 0": rows, "seed 1": rows}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="No run has a metric called 'loss/polcy'"):
        learning_curves({"seed 0": rows}, tmp_path / "curve.png", key="loss/polcy")


def test_a_moving_mean_takes_fewer_values_at_the_ends():
    assert moving_mean([0.0, 3.0, 6.0, 0.0], 3) == [1.5, 3.0, 3.0, 3.0]
    assert moving_mean([], 3) == []


def test_plots_without_matplotlib_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"Plots need matplotlib: pip install 'agentgym-rft\[plot\]'"):
        learning_curves({"a": []}, tmp_path / "curve.png")
