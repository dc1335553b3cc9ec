import xml.etree.ElementTree as ET

import pytest

from agentgym_rft.errors import DataError
from agentgym_rft.report.comparison import (
    BY_LOGITS,
    BY_WEIGHTS,
    MEASURED,
    RunData,
    comparison_charts,
    outcome,
    paired,
    pearson,
    write_comparison,
)
from agentgym_rft.report.evaluation import write_evaluation
from agentgym_rft.report.html import write_report
from agentgym_rft.report.metrics import MetricsWriter
from agentgym_rft.report.svg import Series, colour, line_chart, scatter_chart
from tests.report.test_evaluation import PANEL, SETTINGS, TRAJECTORIES, summarise

TAG = "{http://www.w3.org/2000/svg}"


def _rows(slope=1.0, **extra):
    """Three steps; the change measured in the last one is off the line."""
    changes = [(-0.1, -0.1), (0.0, 0.0), (0.2, 0.3)]
    return [
        {"step": n, "episode/success": n / 10, "entropy/mean": 1 / n, BY_WEIGHTS: slope * x, MEASURED: y, **extra}
        for n, (x, y) in enumerate(changes, start=1)
    ]


def _run_dir(path, rows, with_evaluation=False):
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("run: {seed: 0}\n")
    writer = MetricsWriter(path / "metrics.jsonl")
    for row in rows:
        writer.write(row)
    writer.close()
    if with_evaluation:
        write_evaluation(path, 3, summarise(TRAJECTORIES, PANEL, SETTINGS))
    return path


def test_pairs_are_the_steps_that_recorded_both():
    rows = [{"step": 1, "a": 1.0, "b": 2.0}, {"step": 2, "a": 3.0}, {"step": 3, "b": 4.0}, {"step": 4, "a": 5, "b": 6}]
    assert paired(rows, "a", "b") == ([1.0, 5.0], [2.0, 6.0])
    assert paired([*rows, {"step": 5, "a": None, "b": 1.0}], "a", "b") == ([1.0, 5.0], [2.0, 6.0])


def test_the_correlation_is_pearsons_or_none():
    assert pearson([-1.0, 0.0, 2.0], [-1.0, 0.0, 3.0]) == pytest.approx(19 / (42 * 78) ** 0.5 * 3)
    assert pearson([1.0], [1.0]) is None
    assert pearson([1.0, 1.0], [1.0, 2.0]) is None


def test_a_runs_row_holds_the_end_of_the_run_and_the_correlations():
    row = outcome(RunData("a", _rows(**{BY_LOGITS: 1.0}), []), 1)
    assert (row.num_steps, row.colour) == (3, colour(1))
    assert row.success == pytest.approx(0.2)
    assert row.entropy == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert row.r_weights == pytest.approx(pearson([-1, 0, 2], [-1, 0, 3]))
    assert row.r_logits is None
    assert row.evaluation is None
    empty = outcome(RunData("b", [], []), 0)
    assert (empty.num_steps, empty.success, empty.r_weights) == (0, None, None)


def test_a_chart_has_a_colour_a_run_and_a_run_without_the_metric_keeps_its_own():
    runs = [RunData("a", [{"step": 1, "episode/success": 0.5}], []), RunData("b", _rows(), [])]
    charts = {ET.fromstring(chart).get("aria-label"): ET.fromstring(chart) for chart in comparison_charts(runs)}
    assert set(charts) == {
        "Success in training (mean over 7 steps)",
        "Entropy (nats)",
        "Measured change of the probe's entropy (nats)",
        "Change of the probe's entropy (nats): predicted (across), measured (up)",
    }
    success, entropy = charts["Success in training (mean over 7 steps)"], charts["Entropy (nats)"]
    assert [line.get("stroke") for line in success.iter(f"{TAG}polyline")] == [colour(0), colour(1)]
    assert [line.get("stroke") for line in entropy.iter(f"{TAG}polyline")] == [colour(1)]


def test_a_scatter_chart_has_every_point_and_the_part_of_the_diagonal_in_sight():
    chart = ET.fromstring(scatter_chart("<s>", [Series("a", [0.0, 1.0], [0.0, 2.0]), Series("b", [0.5], [0.5])]))
    points = [(dot.get("cx"), dot.get("cy"), dot.get("fill")) for dot in chart.iter(f"{TAG}circle")]
    assert points == [("56.0", "228.0", colour(0)), ("628.0", "26.0", colour(0)), ("342.0", "177.5", colour(1))]
    (diagonal,) = [line for line in chart.iter(f"{TAG}line") if line.get("stroke-dasharray")]
    assert [diagonal.get(name) for name in ("x1", "y1", "x2", "y2")] == ["56.0", "228.0", "628.0", "127.0"]
    assert scatter_chart("none", [Series("a", [], [])]) == ""
    assert "stroke-dasharray" not in scatter_chart("apart", [Series("a", [0.0, 1.0], [2.0, 3.0])])
    assert "stroke-dasharray" not in scatter_chart("s", [Series("a", [0.0, 1.0], [0.0, 1.0])], diagonal=False)


def test_a_legend_names_the_series_with_points_in_their_colours():
    svg = line_chart("c", [Series("none", [], []), Series("some", [1.0], [1.0])])
    (name,) = [text for text in ET.fromstring(svg).iter(f"{TAG}text") if text.get("style")]
    assert (name.text, name.get("style")) == ("some", f"fill:{colour(1)}")
    assert "some" not in line_chart("c", [Series("some", [1.0], [1.0])], legend=False)


def test_a_comparison_lies_in_a_page_without_scripts(tmp_path):
    runs = [_run_dir(tmp_path / "<a>", _rows(), with_evaluation=True), _run_dir(tmp_path / "b", _rows(slope=-1.0))]
    outcomes = write_comparison(runs, tmp_path / "page.html")
    assert [row.name for row in outcomes] == ["<a>", "b"]
    assert outcomes[0].r_weights == pytest.approx(-outcomes[1].r_weights)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 5
    assert "&lt;a&gt;" in page
    assert f"{outcomes[0].r_weights:.3f}" in page
    assert "50.0 % (" in page
    for tag in ("<a>", "<script", "<link", "src=", "@import", "url("):
        assert tag not in page


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    runs = [_run_dir(tmp_path / seed / "run", _rows()) for seed in ("0", "1")]
    assert [row.name for row in write_comparison(runs, tmp_path / "page.html")] == [str(run) for run in runs]


def test_a_run_that_has_just_begun_can_be_compared(tmp_path):
    write_comparison([_run_dir(tmp_path / "run", [])], tmp_path / "page.html")
    assert "No step is recorded yet." in (tmp_path / "page.html").read_text()


def test_a_folder_that_is_no_run_is_not_compared(tmp_path):
    with pytest.raises(DataError, match="is no run directory"):
        write_comparison([_run_dir(tmp_path / "run", _rows()), tmp_path], tmp_path / "page.html")


def test_the_report_of_a_run_shows_predicted_against_measured(tmp_path):
    page = write_report(_run_dir(tmp_path / "run", _rows())).read_text()
    assert "Change of the probe&#x27;s entropy (nats): predicted (across), measured (up)" in page
    assert "Change of the probe" not in write_report(_run_dir(tmp_path / "plain", [{"step": 1}])).read_text()
