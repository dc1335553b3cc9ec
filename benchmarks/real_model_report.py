"""The tables and the curves of a study of a real model, from what its stages left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from agentgym_rft.report.metrics import Row, column, read_metrics
from agentgym_rft.report.plots import learning_curves

EVALUATED = {
    "base_plain": "as it comes, card `plain`",
    "base_think": "as it comes, card `think`",
    "imitate": "after imitation",
    "reports": "after learning to report",
    "grpo": "after GRPO",
    "r3l": "after R3L",
}
REINFORCED = ("grpo", "r3l")
REPORTED = {
    "valid_reports": "valid reports",
    "right_outcome": "valid ones that are right about the outcome",
    "pivot_within_1": "pivot within one turn of hindsight",
    "pivot_within_1_first_turn": "the first turn within one of hindsight",
    "same_suggestion_as_hindsight": "same suggestion as hindsight",
}
GUIDANCE = {"guided": "its own report", "unguided": "none (control)", "told": "the report of hindsight"}


def write(out: Path) -> None:
    """Print the tables and draw the curves; what is missing is left out."""
    for table in (evaluations(out), types(out), runs(out), steps(out), reflections(out), refusals(out), engines(out)):
        lines = list(table)
        if len(lines) > 2:  # the head alone has two
            print("\n".join(lines), end="\n\n")
    draw(out, ("imitate",), "loss/action", "imitation: nats of an action token")
    draw(out, REINFORCED, "episode/success", "success while it samples, generated ALFWorld")


def draw(out: Path, names: Sequence[str], key: str, title: str) -> None:
    """Draw a metric of those runs that are there."""
    found = {name: rows_of(out / name) for name in names if num_steps(out / name)}
    if found:
        path = out / f"{key.partition('/')[0]}.png"
        learning_curves(found, path, key=key, title=title)
        print(path)


def evaluations(out: Path) -> Iterator[str]:
    yield "| policy | success | 95 % interval | invalid actions | turns | sampled tokens | fed | trained, minutes |"
    yield "|---|---|---|---|---|---|---|---|"
    found = [(name, "greedy", result) for name, result in results(out)]
    found += [(name, "at temperature 1", result) for name, result in results(out, "_sampled")]
    for name, how, result in found:
        low, high = result["success_ci95"]
        fed = result["sampled_tokens"] + result["context_tokens"]
        rows = rows_of(out / name)
        minutes = f"{rows[-1]['time_s'] / 60:.0f}" if rows else ""
        cells = [
            f"{EVALUATED[name]}, {how}",
            f"{result['num_won']} of {result['num_tasks']}",
            f"{100 * low:.1f} to {100 * high:.1f}",
            f"{100 * result['invalid_actions']:.1f} %",
            *(f"{value:,.1f}" for value in (result["mean_turns"], result["sampled_tokens"], fed)),
            minutes,
        ]
        yield f"| {' | '.join(cells)} |"


def types(out: Path) -> Iterator[str]:
    """Tasks won by type."""
    found = [(name, result["by_type"]) for name, result in results(out) if result["num_won"]]
    names = sorted({kind for _, by_type in found for kind in by_type})
    yield f"| won by type | {' | '.join(names)} |"
    yield "|---" * (1 + len(names)) + "|"
    for name, by_type in found:
        cells = (f"{by_type[kind]['num_won']} of {by_type[kind]['num_tasks']}" for kind in names)
        yield f"| {EVALUATED[name]} | {' | '.join(cells)} |"


def runs(out: Path) -> Iterator[str]:
    yield (
        "| run | steps | minutes | episodes | sampled tokens | groups with signal | sampled success, thirds "
        "| update a step | play a step | valid reports | retries that improve |"
    )
    yield "|---" * 11 + "|"
    for name in REINFORCED:
        if rows := rows_of(out / name):
            yield _run(name, rows)


def _run(name: str, rows: list[Row]) -> str:
    def total(key: str) -> float:
        return sum(column(rows, key)[1])

    third = max(len(rows) // 3, 1)
    success = column(rows, "episode/success")[1]
    means = (sum(part) / len(part) for part in (success[:third], success[third:-third] or success, success[-third:]))
    groups = total("group/num")
    cells = [
        EVALUATED[name].removeprefix("after "),
        f"{len(rows)}",
        f"{rows[-1]['time_s'] / 60:.0f}",
        f"{total('episode/num'):.0f}",
        f"{total('rollout/generated_tokens'):,.0f}",
        f"{groups - total('group/without_signal'):.0f} of {groups:.0f}",
        ", ".join(f"{100 * mean:.0f} %" for mean in means),
        *(f"{total(key) / len(rows):.0f} s" for key in ("time/update_s", "time/rollout_s")),
        share(rows, "reflect/valid", "reflect/num"),
        share(rows, "reflect/improved", "reflect/retries"),
    ]
    return f"| {' | '.join(cells)} |"


def share(rows: list[Row], rate: str, number: str) -> str:
    """Return how many of how many, from a rate and a number at each step; nothing if there is none."""
    numbers = sum(row.get(number, 0.0) for row in rows)
    return f"{sum(row.get(rate, 0.0) * row.get(number, 0.0) for row in rows):.0f} of {numbers:.0f}" if numbers else ""


def steps(out: Path) -> Iterator[str]:
    """Success of the sampled episodes, in tenths of each run, whose tasks differ from step to step."""
    yield "| sampled success by tenth of a run |" + " |".join(f" {number}" for number in range(1, 11)) + " |"
    yield "|---" * 11 + "|"
    for name in REINFORCED:
        success = column(rows_of(out / name), "episode/success")[1]
        if len(success) >= 10:
            edges = [len(success) * number // 10 for number in range(11)]
            parts = (success[start:end] for start, end in pairwise(edges))
            cells = (f"{100 * sum(part) / len(part):.0f} %" for part in parts)
            yield f"| {EVALUATED[name].removeprefix('after ')} | {' | '.join(cells)} |"


def reflections(out: Path) -> Iterator[str]:
    yield "| policy | measure | rate | 95 % interval | n |"
    yield "|---|---|---|---|---|"
    for name, result in reflected(out):
        for what, rate in {**{label: result[key] for key, label in REPORTED.items()}, **retries(result)}.items():
            low, high = rate["ci95"]
            cells = f"{100 * rate['rate']:.1f} % | {100 * low:.1f} to {100 * high:.1f} | {rate['n']}"
            yield f"| {EVALUATED[name]} | {what} | {cells} |"


def retries(result: Any) -> dict[str, Any]:
    return {f"retries won, guided by {what}": result["retries"][kind] for kind, what in GUIDANCE.items()}


def refusals(out: Path) -> Iterator[str]:
    yield "| policy | reports without use | |"
    yield "|---|---|---|"
    for name, result in reflected(out):
        for why, number in sorted(result["refusals"].items(), key=lambda item: -item[1]):
            yield f"| {EVALUATED[name]} | {why} | {number} |"


def engines(out: Path) -> Iterator[str]:
    yield (
        "| weights | greedy tokens equal | largest difference of a log-prob | hf, tokens/s | vLLM, tokens/s "
        "| start of vLLM |"
    )
    yield "|---" * 6 + "|"
    result = read(out / "vllm.json")
    for dtype in ("float32", "bfloat16") if result else ():
        speed = {row["policy"]: row["tokens_per_s"] for row in result["speed"] if row["dtype"] == dtype}
        same = result[dtype]
        yield (
            f"| {dtype} | {same['tokens_equal']} of {same['tokens']} | {same['logprob_max_difference']:.2g} "
            f"| {speed['hf']:.1f} | {speed['vllm']:.1f} | {same['start_s']:.0f} s |"
        )


def results(out: Path, suffix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the evaluations that are there: the name of each stage, and the summary."""
    for name in EVALUATED:
        done = f"{name}-{num_steps(out / name)}" if name in REINFORCED else name
        if (result := read(out / f"{done}{suffix}.json")) is not None:
            yield name, result


def reflected(out: Path) -> Iterator[tuple[str, Any]]:
    """Yield what was measured of reports, by the policy that wrote them."""
    for name in ("reports", "r3l"):
        if (result := read(out / f"reflection_{name}.json")) is not None:
            yield name, result


def rows_of(run: Path) -> list[Row]:
    """Return the metrics of a run's steps; none if it is not there."""
    path = run / "metrics.jsonl"
    return read_metrics(path) if path.is_file() else []


def num_steps(run: Path) -> int:
    """Return the steps of a run that are done."""
    return len(rows_of(run))


def read(path: Path) -> Any:
    """Return the content of a JSON file, None if there is none."""
    return json.loads(path.read_text()) if path.is_file() else None
