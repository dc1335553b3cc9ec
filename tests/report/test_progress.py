import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from agentgym_rft.report.progress import (
    LiveProgress,
    PlainProgress,
    evaluation_line,
    format_duration,
    make_progress,
    step_parts,
)
from agentgym_rft.report.tables import evaluation_view
from agentgym_rft.report.terminal import print_wide
from tests.report.test_evaluation import PANEL, SETTINGS, TRAJECTORIES, summarise

ROW = {"step": 2, "episode/success": 0.431, "entropy/mean": 0.52, "speed/tokens_per_s": 12345.6}


def _run(progress):
    progress.start(run_dir=Path("runs/x"), first_step=2, num_steps=3)
    progress.evaluation(1, summarise(TRAJECTORIES, PANEL, SETTINGS))
    progress.step(2, ROW)
    progress.note("saved [checkpoint]")
    progress.finish()
    progress.finish()


def test_plain_output_is_a_line_an_event():
    out = io.StringIO()
    _run(PlainProgress(Console(file=out, width=40)))
    lines = out.getvalue().splitlines()
    assert lines[0] == "run runs/x, steps 2 to 3"
    assert lines[1].startswith(
        "evaluation after step 1: success 50.0 % (95 % interval 15.0 - 85.0) on 5 tasks of valid"
    )
    assert lines[1].endswith(", 1 errors")
    assert re.fullmatch(r"step 2/3  success 43.1 %  entropy 0.520  12,346 tokens/s  left 0:0\d", lines[2])
    assert lines[3] == "saved [checkpoint]"
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("unparsed", "is_said"), [({"no_think": 6, "empty": 5}, True), ({"empty": 9}, False), ({}, False)]
)
def test_most_replies_without_an_action_are_said(unparsed, is_said):
    summary = summarise(TRAJECTORIES, PANEL, SETTINGS) | {"unparsed": unparsed, "mean_turns": 4.5}
    shown = io.StringIO()
    print_wide(shown, evaluation_view(summary))
    for text in (evaluation_line(1, summary), shown.getvalue()):
        assert ("11 of 18 replies held no action: 6 no_think, 5 empty" in text) == is_said


def test_the_live_display_shows_the_same():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=140, color_system=None)
    _run(LiveProgress(console))
    for part in ("2/3", "success 43.1 %", "entropy 0.520", "12,346 tokens/s", "left", "saved [checkpoint]", "50.0 %"):
        assert part in out.getvalue()


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, LiveProgress), (False, PlainProgress)])
def test_the_display_is_live_only_in_a_terminal(is_terminal, kind):
    assert type(make_progress(Console(file=io.StringIO(), force_terminal=is_terminal))) is kind


def test_metrics_that_are_missing_are_not_shown():
    assert step_parts({"step": 1}) == []
    assert step_parts({"episode/success": None, "entropy/mean": 0.0}) == ["entropy 0.000"]


@pytest.mark.parametrize(("seconds", "text"), [(None, "-:--"), (0, "0:00"), (75.4, "1:15"), (4000, "1:06:40")])
def test_durations_are_clock_times(seconds, text):
    assert format_duration(seconds) == text


def test_the_table_has_a_row_a_type_and_one_for_all():
    out = io.StringIO()
    print_wide(out, evaluation_view(summarise(TRAJECTORIES, PANEL, SETTINGS)))
    text = out.getvalue()
    rows = [line.split() for line in text.splitlines()]
    assert "agentgym/ALFWorld-v0 valid_unseen, policy seed, greedy" in text
    assert ["cool", "3", "1", "50.0", "%", "9.5", "-", "90.5", "0.625", "5.0"] in rows
    assert ["all", "5", "1", "50.0", "%", "15.0", "-", "85.0", "0.688", "5.0"] in rows
    assert "panel abababababababab (5 tasks), seed 3" in text
    assert "1 episodes ended with an error and are not in the rates: 1 env_error" in text
