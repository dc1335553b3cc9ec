"""The real ALFWorld games beside the repository, where they are."""

import functools
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "alfworld_real"
needs_real_games = pytest.mark.skipif(not FOLDER.is_dir(), reason="the real ALFWorld games are not here")


@functools.cache
def common() -> dict[str, str]:
    return json.loads((FOLDER / "common.json").read_text())


def documents(split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Task ids and game documents of a split."""
    with lzma.open(FOLDER / f"{split}.jsonl.xz", "rt") as lines:
        for line in lines:
            game = json.loads(line)
            yield (
                game["path"],
                {
                    "pddl_domain": common()["pddl_domain"],
                    "grammar": common()["grammar"].replace("@@TASK@@", game["task"]),
                    "pddl_problem": game["pddl_problem"],
                    "walkthrough": game["walkthrough"],
                    "solvable": game["solvable"],
                },
            )


def traces() -> Iterator[dict[str, Any]]:
    """Recorded episodes of the real engine."""
    with lzma.open(FOLDER / "traces.jsonl.xz", "rt") as lines:
        yield from map(json.loads, lines)
