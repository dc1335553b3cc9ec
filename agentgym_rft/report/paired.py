"""Compares two results on the same panel, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from agentgym_rft.errors import DataError
from agentgym_rft.report.evaluation import PROTOCOL, Summary
from agentgym_rft.report.intervals import Interval, bootstrap_mean


@dataclass(frozen=True, slots=True)
class Comparison:
    """A against B on the tasks that both ended without an error.

    `difference` is the mean over tasks of A's success less B's; `only_a` and `only_b` count the tasks that one of them
    won and the other did not. These and McNemar's p-value are None where a task was played more than once.
    """

    a: str
    b: str
    num_tasks: int
    num_left_out: int
    success_a: float
    success_b: float
    difference: float
    difference_ci95: Interval
    only_a: int | None
    only_b: int | None
    mcnemar_p: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"difference_ci95": list(self.difference_ci95)}


def why_incomparable(a: Summary, b: Summary) -> str | None:
    """Return the end of a sentence that says how panels or protocols differ; None where they agree.

    A player without a model has neither card nor temperature, and agrees with any.
    """
    first, second = a["protocol"], b["protocol"]
    if first["panel_hash"] != second["panel_hash"]:
        return (
            f"were played on different panels: {_panel(first)} and {_panel(second)}. "
            "Evaluate both with the same --panel, or the same split and number of tasks"
        )
    differing = [key for key in PROTOCOL if not _agree(key, first[key], second[key])]
    if not differing:
        return None
    parts = ", ".join(f"{key} is {first[key]!r} and {second[key]!r}" for key in differing)
    return f"were played under different protocols: {parts}. Evaluate one of them again"


def compare(a: Summary, b: Summary, names: tuple[str, str] | None = None) -> Comparison:
    """Return the paired comparison of two results; `names` are used in place of their policies.

    Raises:
        DataError: their panels or protocols differ, or no task ended without an error in both.
    """
    first, second = names or (a["policy"], b["policy"])
    if problem := why_incomparable(a, b):
        raise DataError(f"'{first}' and '{second}' cannot be compared: they {problem}.")
    if len(a["tasks"]) != len(b["tasks"]):  # one of the two was changed by hand
        raise DataError(f"'{first}' and '{second}' cannot be compared: one of them lacks tasks of the panel.")
    rates = [(_rate(x), _rate(y)) for x, y in zip(a["tasks"], b["tasks"], strict=True)]
    pairs = [(x, y) for x, y in rates if x is not None and y is not None]
    if not pairs:
        raise DataError(f"'{first}' and '{second}' cannot be compared: no task ended without an error in both.")
    differences = [x - y for x, y in pairs]
    is_single = a["samples"] == 1
    only_a, only_b = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        a=first,
        b=second,
        num_tasks=len(pairs),
        num_left_out=len(rates) - len(pairs),
        success_a=fmean(x for x, _ in pairs),
        success_b=fmean(y for _, y in pairs),
        difference=fmean(differences),
        difference_ci95=bootstrap_mean(differences),
        only_a=only_a if is_single else None,
        only_b=only_b if is_single else None,
        mcnemar_p=mcnemar(only_a, only_b) if is_single else None,
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return exact two-sided p-value of McNemar's test, from the tasks that only one of two players won.

    Under the null hypothesis each such task falls to either player with chance 1/2, so the p-value is twice the lower
    tail of a binomial distribution, at most 1.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika
    12, with the binomial distribution in place of its approximation.
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = term = 1  # C(n, 0)
    for i in range(fewer):
        term = term * (n - i) // (i + 1)  # C(n, i + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def comparison_lines(result: Comparison) -> Sequence[str]:
    """Return the comparison in words, a line a fact."""
    low, high = result.difference_ci95
    lines = [
        f"A = {result.a}: success {100 * result.success_a:.1f} %",
        f"B = {result.b}: success {100 * result.success_b:.1f} %",
        f"A - B: {100 * result.difference:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f} "
        f"(paired bootstrap over {result.num_tasks} tasks)",
    ]
    if result.mcnemar_p is not None:
        lines.append(
            f"won by A alone {result.only_a}, by B alone {result.only_b}: McNemar's exact p = {result.mcnemar_p:.3g}"
        )
    if result.num_left_out:
        lines.append(f"{result.num_left_out} tasks ended with an error in one of the two and are left out")
    return lines


def _rate(row: dict[str, Any]) -> float | None:
    return None if row["success"] is None else float(row["success"])


def _agree(key: str, first: Any, second: Any) -> bool:
    is_agents = key in ("card", "temperature")
    return first == second or (is_agents and (first is None or second is None))


def _panel(protocol: dict[str, Any]) -> str:
    return f"{protocol['panel_hash'][:16]} ({protocol['env']} {protocol['split']})"
