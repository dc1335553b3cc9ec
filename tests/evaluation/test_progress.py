import io

import pytest
from rich.console import Console

from agentgym_rft.evaluation.progress import evaluation_progress
from tests.report.results import trajectory

KEPT = {"a": trajectory("a", True), "b": trajectory("b", None)}


def shown(is_terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=100)
    with evaluation_progress(console, 4, KEPT) as on_finished:
        on_finished(trajectory("c", False))
        on_finished(trajectory("d", None))
    return out.getvalue()


def test_a_terminal_shows_success_errors_and_how_far_it_is_from_where_it_went_on():
    text = shown(True)
    assert "success 50.0 %, 2 errors" in text
    assert "4/4" in text


def test_a_pipe_shows_nothing():
    assert shown(False).strip() == ""


@pytest.mark.parametrize("outcome", [True, None])
def test_the_first_episode_may_be_any(outcome):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with evaluation_progress(console, 1, {}) as on_finished:
        on_finished(trajectory("a", outcome))
    assert "1/1" in console.file.getvalue()
