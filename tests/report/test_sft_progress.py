from __future__ import annotations

import io
import time
from pathlib import Path

from rich.console import Console

from agentgym_rft.report.sft_progress import SftLines

ROW = {"step": 3, "progress": 0.25, "loss/all": 1.2345, "loss/action": 0.5, "speed/tokens_per_s": 1234.5}


def lines(monkeypatch, shares, started=0.0):
    """The lines of steps that end ten seconds apart."""
    out, now = io.StringIO(), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = SftLines(Console(file=out, width=40))
    shown.start(Path("runs/a"), 20_000, started)
    for share in shares:
        now[0] += 10
        shown.step(ROW | {"progress": share})
    return out.getvalue().splitlines()


def test_each_step_is_a_line_with_its_losses_speed_and_time_left(monkeypatch):
    assert lines(monkeypatch, [0.25]) == [
        "run runs/a",
        "step 3  25.0 % of 20,000 tokens  loss 1.234  action loss 0.500  1,234 tokens/s  left 0:30",
    ]


def test_the_time_left_of_a_resumed_run_is_judged_by_what_it_did_itself(monkeypatch):
    assert [line.rpartition("  ")[2] for line in lines(monkeypatch, [0.5, 0.6, 1.0], started=0.5)[1:]] == [
        "left -:--",
        "left 1:20",
        "left 0:00",
    ]
