"""Names and texts from environments, models and files stay data: on the terminal, in file names and in pages."""

from __future__ import annotations

import json
from pathlib import Path

from fault_case import Case, Finished, agentgym, python
from fault_runs import train

KIND = "names"
TAG = "<img src=x onerror=alert(1)>"

# Splits with slashes, task types like markup, observations and errors that give orders to a terminal.
HOSTILE = r"""
from tests.light_switch import LightSwitch

TYPES = ("[/oops]", "search[red]", "[bold]x[/bold]", ":smile:", "<b>x</b>|", "\x1b[2J\x1b]0;owned\x07")


class Hostile(LightSwitch):
    splits = ("train", "valid/easy", "../../valid")

    def task_ids(self, split):
        return [f"{split}/{number}" for number in range(30)]

    def reset(self, *, seed=None, options=None):
        self._name = (options or {"task_id": "train/0"})["task_id"]
        if self._fault == "raise":
            raise ValueError("\x1b[2J[/oops]\x1b]0;owned\x07")
        return super().reset(seed=seed, options={"task_id": self._name.rpartition("/")[2]})

    def _info(self):
        return {**super()._info(), "task_id": self._name, "task_type": TYPES[self._task % len(TYPES)]}

    def _room(self):
        return f"\x1b[2J{super()._room()}\x1b]0;owned\x07[/oops]"
"""


def clean(ended: Finished) -> None:
    """Check that nothing was given to the terminal but text."""
    for text in (ended.out, ended.err):
        orders = sorted(ascii(letter) for letter in set(text) if not letter.isprintable() and letter not in "\n\t")
        assert not orders, f"a terminal was given {orders}: {text[-300:]!r}"


def hostile(folder: Path) -> str:
    """Write the environment and return its name."""
    (folder / "hostile.py").write_text(HOSTILE)
    return "hostile:Hostile"


def task_types_like_markup(folder: Path) -> None:
    """An evaluation of task types that look like markup, to a pipe and with a file."""
    given = ("eval", "--env", hostile(folder), "--policy=expert", "--split=valid/easy", "--tasks=12", "--out=r.json")
    ended = agentgym(*given, cwd=folder)
    ended.ended(0)
    clean(ended)
    for name in ("[/oops]", "search[red]", "[bold]x[/bold]", ":smile:", "<b>x</b>|", r"\x1b[2J\x1b]0;owned"):
        assert name in ended.out, f"{name} is not in {ended.out}"
    assert "[/oops]" in json.loads((folder / "r.json").read_text())["by_type"]


def splits_like_paths(folder: Path) -> None:
    """Training evaluates on splits whose names are paths; its evaluations are found again."""
    for number, split in enumerate(("valid/easy", "../../valid")):
        place = folder / str(number)
        place.mkdir()
        train(place, f"--eval.split={split}", env=hostile(place))
        files = sorted(path.name for path in (place / "run" / "evaluations").iterdir())
        assert len(files) == 2, files
        ended = agentgym("view", "run", cwd=place)
        ended.ended(0)
        page = (place / "run" / "report.html").read_text()
        assert page.count(f"tasks of\n{split}") == 2, "the report does not show the evaluations"
        assert "<b>x</b>" not in page, "a name is a tag in the report"
        outside = {path.name for path in folder.iterdir()} - {"0", "1", ".state"}
        assert not outside, f"written outside: {outside}"
    for command in ("bench run --tasks=2 --samples=2", "report run", "leaderboard run"):
        agentgym(*command.split(), cwd=folder / "0").ended(0)


def orders_to_the_terminal(folder: Path) -> None:
    """A person plays an environment whose texts are orders, and one that fails with such a message is trained on."""
    env = hostile(folder)
    given = ("from agentgym_rft.cli.main import main; import io, sys; sys.stdin = io.StringIO('red\\nred\\n'); "
             f"sys.argv = ['agentgym', 'play', '--env', '{env}']; main()")  # fmt: skip
    ended = python("-c", given, cwd=folder)
    ended.ended(0)
    clean(ended)
    assert r"\x1b[2JTask 0" in ended.out, ended.out
    failed = train(folder, "--env.options.fault=raise", env=env, code=1)
    clean(failed)
    assert r"\x1b[2J[/oops]" in failed.err, failed.err


def leaderboard_of_tags(folder: Path) -> None:
    """A result calls its policy a tag with a bar and a picture."""
    agentgym("eval", "--env=frozenlake", "--policy=random", "--tasks=4", "--out=r.json", cwd=folder).ended(0)
    name = f"{TAG}|![x](http://elsewhere.example)"
    result = json.loads((folder / "r.json").read_text()) | {"policy": name}
    (folder / "r.json").write_text(json.dumps(result))
    agentgym("leaderboard", "r.json", "--out=board", cwd=folder).ended(0)
    for file in ("leaderboard.md", "leaderboard.html"):
        text = (folder / "board" / file).read_text()
        assert TAG not in text, f"a tag is in {file}"
    text = (folder / "board" / "leaderboard.md").read_text()
    assert "![x]" not in text, "a picture of another host is in leaderboard.md"
    assert r"\|" in text, "the bar ends a cell"


CASES = (
    Case(KIND, "task types `[/oops]`, `search[red]`, orders to the terminal", task_types_like_markup),
    Case(KIND, "splits `valid/easy` and `../../valid`", splits_like_paths),
    Case(KIND, "observations and errors give orders to the terminal", orders_to_the_terminal),
    Case(KIND, "a policy's name is a tag in a leaderboard", leaderboard_of_tags),
)
