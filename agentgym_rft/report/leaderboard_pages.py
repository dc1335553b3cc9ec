"""Writes leaderboards as Markdown and as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft import __version__
from agentgym_rft.report.leaderboard import Board, Entry
from agentgym_rft.report.markdown import code, markdown_note, markdown_text, plain
from agentgym_rft.report.pages import page_template
from agentgym_rft.report.published import BASIS, PublishedRow
from agentgym_rft.report.tables import pass_at_line, percent

INTRODUCTION = (
    "Ranked by success. Intervals are 95 %: Wilson's for success, a paired bootstrap over tasks for the difference to "
    "the first of the table; p is McNemar's exact test on the same tasks. Episodes that ended with an error count "
    "neither as won nor as lost. Results are comparable within a table only."
)
LITERATURE = (
    "Numbers of the literature, as they were published, not measured here. Protocols differ from ours and from each "
    "other: data, splits, steps, prompts. They are no ranking."
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its title, and the line above it."""

    title: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_published: bool = False


def make_tables(boards: Sequence[Board], published: Sequence[PublishedRow]) -> list[Table]:
    """Return a table a board, then one of published numbers for each environment that has some."""
    envs = dict.fromkeys(row.env for row in published)
    literature = [_published_table(env, [row for row in published if row.env == env]) for env in envs]
    return [*map(_board_table, boards), *literature]


def markdown(tables: Iterable[Table], *, level: int = 2) -> str:
    """Return the tables in Markdown; `level` is that of their headings."""
    parts = []
    for table in tables:
        lines = [_markdown_row(table.headings), "|" + "---|" * len(table.headings), *map(_markdown_row, table.rows)]
        head = f"{'#' * level} {markdown_text(table.title)}\n\n{markdown_note(table.note)}\n\n"
        parts.append(head + "\n".join(lines) + "\n")
    return "\n".join(parts)


def html(tables: Sequence[Table]) -> str:
    """Return the leaderboard as a page without scripts."""
    page: str = page_template("leaderboard.html.j2").render(
        version=__version__, tables=tables, introduction=INTRODUCTION, literature=LITERATURE
    )
    return page


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def _board_table(board: Board) -> Table:
    protocol = board.protocol
    options = plain(", ".join(f"{name}={value}" for name, value in protocol["options"].items()))
    note = (
        f"{board.num_tasks} tasks of {code(protocol['split'])}, panel {code(protocol['panel_hash'][:16])}, at most "
        f"{protocol['max_steps']} steps" + (f", options {options}" if options else "") + "."
    )
    columns = {"#": _rank, "policy": lambda entry: entry.name, "success": _success, "95 % interval": _interval}
    columns |= {"to the first, points": _difference, "p": _p_value, "score": _score, "turns": _turns}
    columns |= {"invalid": _invalid, "tokens": _tokens, "errors": _errors, "decoding": _decoding}
    if any(entry.summary["pass_at_k"] for entry in board.entries):
        columns["pass@k"] = lambda entry: pass_at_line(entry.summary["pass_at_k"]) or "-"
    rows = tuple(tuple(cell(entry) for cell in columns.values()) for entry in board.entries)
    return Table(f"{protocol['env']}, {protocol['split']}", note, tuple(columns), rows)


def _rank(entry: Entry) -> str:
    return "-" if entry.rank is None else str(entry.rank)


def _success(entry: Entry) -> str:
    return percent(entry.summary["success"])


def _interval(entry: Entry) -> str:
    low, high = entry.summary["success_ci95"]
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _difference(entry: Entry) -> str:
    if entry.against_best is None:
        return "-"
    low, high = entry.against_best.difference_ci95
    return f"{100 * entry.against_best.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _p_value(entry: Entry) -> str:
    found = entry.against_best
    return "-" if found is None or found.mcnemar_p is None else f"{found.mcnemar_p:.2g}"


def _score(entry: Entry) -> str:
    return _number(entry.summary.get("score"), "{:.3f}")


def _turns(entry: Entry) -> str:
    return _number(entry.summary.get("mean_turns"), "{:.1f}")


def _invalid(entry: Entry) -> str:
    return percent(entry.summary.get("invalid_actions"))


def _tokens(entry: Entry) -> str:
    return _number(entry.summary.get("sampled_tokens"), "{:.0f}")


def _errors(entry: Entry) -> str:
    return str(entry.summary["num_errors"])


def _decoding(entry: Entry) -> str:
    summary: Mapping[str, Any] = entry.summary
    temperature, samples = summary["protocol"]["temperature"], summary["samples"]
    how = "scripted" if temperature is None else "greedy" if temperature == 0 else f"temperature {temperature:g}"
    card = summary["protocol"]["card"]
    parts = [how, *([] if samples == 1 else [f"{samples} samples"]), *([f"card {card}"] if card else [])]
    return ", ".join(parts)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _published_table(env: str, rows: Sequence[PublishedRow]) -> Table:
    headings = ("system", "model", "score", "success", "protocol", "source", "basis")
    cells = tuple(
        (
            row.system,
            row.model or "-",
            _number(row.score, "{:.1f}"),
            _number(row.success, "{:.1f} %") + ("" if row.success_to is None else f" to {row.success_to:.1f} %"),
            row.protocol,
            row.source,
            BASIS[row.basis],
        )
        for row in rows
    )
    return Table(f"Published elsewhere: {env}", LITERATURE, headings, cells, is_published=True)
