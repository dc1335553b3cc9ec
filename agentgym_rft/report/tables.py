"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def success_table(summary: Mapping[str, Any]) -> Table:
    """Return success with its Wilson 95 % interval, score and turns: a row a task type, and all tasks last."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=False)
    table.add_column("task type")
    for heading in ("tasks", "errors", "success", "95 % interval", "score", "turns"):
        table.add_column(heading, justify="right")
    rows = list(summary["by_type"].items())
    for index, (name, totals) in enumerate(rows):
        table.add_row(*_cells(name, totals), end_section=index == len(rows) - 1)
    table.add_row(*_cells("all", summary), style="bold")
    return table


def evaluation_view(summary: Mapping[str, Any]) -> RenderableType:
    """Return the table with the lines above and below that say what was evaluated."""
    above = Text(f"{summary['env']} {summary['split']}, policy {summary['policy']}, {_decoding(summary)}")
    below = Text(f"panel {summary['panel_hash'][:16]} ({summary['num_tasks']} tasks), seed {summary['seed']}")
    parts: list[RenderableType] = [above, success_table(summary), *_seat_parts(summary), below]
    if summary["pass_at_k"]:
        parts.append(Text(f"{summary['samples']} samples a task: {pass_at_line(summary['pass_at_k'])}"))
    if note := unparsed_note(summary):
        parts.append(Text(note, "red"))
    if summary["num_errors"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in summary["errors"].items())
        parts.append(
            Text(f"{summary['num_errors']} episodes ended with an error and are not in the rates: {kinds}", "red")
        )
    return Group(*parts)


def _seat_parts(summary: Mapping[str, Any]) -> list[RenderableType]:
    """Return a table of the agents, and what is known exactly, where there are several agents."""
    if not summary.get("seats"):
        return []
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("agent", "policy"):
        table.add_column(heading)
    for heading in ("success", "score", "return", "95 % interval", "turns"):
        table.add_column(heading, justify="right")
    for agent, seat in summary["seats"].items():
        low, high = seat["return_ci95"]
        numbers = (percent(seat["success"]), f"{seat['score']:.3f}", f"{seat['return']:+.3f}")
        table.add_row(agent, seat["policy"], *numbers, f"{low:+.3f} to {high:+.3f}", f"{seat['mean_turns']:.1f}")
    line = exact_line(summary.get("exact"))
    return [table, *([Text(line)] if line else [])]


def unparsed_note(summary: Mapping[str, Any]) -> str:
    """Return a line on the replies that held no action, if they are most of all; else nothing."""
    reasons = summary.get("unparsed") or {}
    num_turns = (summary["mean_turns"] or 0) * (summary["num_episodes"] - summary["num_errors"])
    if 2 * sum(reasons.values()) <= num_turns:
        return ""
    kinds = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda kind: -kind[1]))
    return f"{sum(reasons.values())} of {num_turns:.0f} replies held no action: {kinds}"


def exact_line(exact: Mapping[str, Any] | None) -> str:
    """Return the exact values as a line; empty if there are none."""
    if exact is None:
        return ""
    if "left_out" in exact:
        return str(exact["left_out"])
    values = ", ".join(f"{name} {value:.4f}" for name, value in exact["values"].items())
    return f"exact: {values}; other replies have a probability of at most {exact['uncounted']:.4f}"


def pass_at_line(estimates: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `pass@1 20.0 % (12.5 - 29.1), pass@4 ...`, with 95 % intervals."""
    return ", ".join(
        f"pass@{k} {percent(found['value'])} ({100 * found['ci95'][0]:.1f} - {100 * found['ci95'][1]:.1f})"
        for k, found in estimates.items()
    )


def percent(rate: float | None) -> str:
    """Return `0.4312` -> `43.1 %`; a dash for None."""
    return "-" if rate is None else f"{100 * rate:.1f} %"


def _cells(name: str, totals: Mapping[str, Any]) -> list[str]:
    low, high = totals["success_ci95"]
    return [
        name,
        str(totals["num_tasks"]),
        str(totals["num_errors"]),
        percent(totals["success"]),
        f"{100 * low:.1f} - {100 * high:.1f}",
        "-" if totals["score"] is None else f"{totals['score']:.3f}",
        "-" if totals["mean_turns"] is None else f"{totals['mean_turns']:.1f}",
    ]


def _decoding(summary: Mapping[str, Any]) -> str:
    temperature = summary["temperature"]
    if temperature is None:
        return "scripted"
    return "greedy" if temperature == 0 else f"temperature {temperature:g}"
