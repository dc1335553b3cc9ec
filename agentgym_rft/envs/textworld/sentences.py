"""Commands of several sentences (`look. take coin`), of which textworld 1.7 reads the report of the first alone."""

from __future__ import annotations

import re

from textworld import GameState
from textworld.core import Wrapper

# A game reports its score and moves after every sentence. TextWorld takes the first score, and the text between the
# first report and the last for a part of it, where neither players nor the tracker of the state see it.
_REPORT = re.compile(r"<score>\n[^<]*</score><moves>\n[^<]*</moves>\n?")


class LastReport(Wrapper):
    """Leaves the report after the last sentence in what the interpreter printed, and takes out those before."""

    def step(self, command: str) -> tuple[GameState, float, bool]:
        state, score, done = super().step(command)
        before, last = _cut(state.feedback)
        state.feedback = _REPORT.sub("", before) + last
        return state, score, done


def _cut(text: str) -> tuple[str, str]:
    """Return what is before the last report, and the report with what follows."""
    start = max((match.start() for match in _REPORT.finditer(text)), default=0)
    return text[:start], text[start:]
