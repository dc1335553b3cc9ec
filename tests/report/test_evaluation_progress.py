import io

import pytest
from rich.console import Console

from agentgym_rft.report.evaluation_progress import TerminalEvaluationProgress
from tests.report.results import trajectory

KEPT = [trajectory("a", True), trajectory("b", None)]


def shown(is_terminal: bool, num_episodes=4, finished=KEPT, ended=(("c", False), ("d", None))) -> str:
    out = io.StringIO()
    progress = TerminalEvaluationProgress(Console(file=out, force_terminal=is_terminal, width=100))
    progress.note("going on [here]")
    progress.start(num_episodes, finished)
    for name, outcome in ended:
        progress.episode(trajectory(name, outcome))
    progress.finish()
    return out.getvalue()


def test_a_terminal_shows_success_errors_and_how_far_it_is_from_where_it_went_on():
    text = shown(True)
    assert "success 50.0 %, 2 errors" in text
    assert "4/4" in text
    assert "going on [here]" in text


def test_a_pipe_shows_only_the_notes():
    assert shown(False).strip() == "going on [here]"


@pytest.mark.parametrize("outcome", [True, None])
def test_the_first_episode_may_be_any(outcome):
    assert "1/1" in shown(True, 1, [], [("a", outcome)])
