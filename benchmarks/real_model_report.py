"""The tables and the curves of a study of a real model, from what its stages left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
GUIDANCE = {"guided": "its own report", "unguided": "none (control)", "told": "the report of hindsight"}


def write(out: Path) -> None:
    """Print the tables and draw the curves; what is missing is left out."""
    for table in (evaluations(out), runs(out), reflections(out), engines(out)):
        lines = list(table)
        if len(lines) > 2:  # the head alone has two
            print("\n".join(lines), end="\n\n")
    draw(out, ("imitate",), "loss/action", "imitation: nats of an action token")
    draw(out, REINFORCED, "episode/success", "success while it samples, generated ALFWorld")


def draw(out: Path, names: Sequence[str], key: str, title: str) -> None:
    """Draw a metric of those runs that are there."""
    found = {name: read_metrics(out / name / "metrics.jsonl") for name in names if num_steps(out / name)}
    if found:
        path = out / f"{key.partition('/')[0]}.png"
        learning_curves(found, path, key=key, title=title)
        print(path)


def evaluations(out: Path) -> Iterator[str]:
    yield "| greedy | success | 95 % interval | invalid actions | turns | sampled tokens | tokens fed |"
    yield "|---|---|---|---|---|---|---|"
    for name, label in EVALUATED.items():
        path = out / (f"{name}-{num_steps(out / name)}.json" if name in REINFORCED else f"{name}.json")
        if (result := read(path)) is not None:
            low, high = result["success_ci95"]
            fed = result["sampled_tokens"] + result["context_tokens"]
            yield (
                f"| {label} | {result['num_won']} of {result['num_tasks']} | {100 * low:.1f} to {100 * high:.1f} "
                f"| {100 * result['invalid_actions']:.1f} % | {result['mean_turns']:.1f} "
                f"| {result['sampled_tokens']:.0f} | {fed:,.0f} |"
            )


def runs(out: Path) -> Iterator[str]:
    yield "| run | steps | minutes | tokens | sampled success, first and last third | update a step | play a step |"
    yield "|---|---|---|---|---|---|---|"
    for name in REINFORCED:
        if (out / name / "metrics.jsonl").is_file() and (rows := read_metrics(out / name / "metrics.jsonl")):
            yield _run(name, rows)


def _run(name: str, rows: list[Row]) -> str:
    success = column(rows, "episode/success")[1]
    third = max(len(success) // 3, 1)
    means = [sum(part) / len(part) for part in (success[:third], success[-third:])]
    sampled = sum(column(rows, "rollout/generated_tokens")[1])
    seconds = [sum(column(rows, key)[1]) / len(rows) for key in ("time/update_s", "time/rollout_s")]
    return (
        f"| {name} | {len(rows)} | {rows[-1]['time_s'] / 60:.0f} | {sampled:,.0f} | {100 * means[0]:.0f} %, "
        f"{100 * means[1]:.0f} % | {seconds[0]:.0f} s | {seconds[1]:.0f} s |"
    )


def reflections(out: Path) -> Iterator[str]:
    yield "| policy | measure | rate | 95 % interval | n |"
    yield "|---|---|---|---|---|"
    for name in ("reports", "r3l"):
        if (result := read(out / f"reflection_{name}.json")) is not None:
            rates = {
                "valid reports": result["valid_reports"],
                "right about the outcome": result["right_outcome"],
                **{f"retries won, guided by {what}": result["retries"][kind] for kind, what in GUIDANCE.items()},
            }
            for what, rate in rates.items():
                low, high = rate["ci95"]
                yield (
                    f"| {EVALUATED[name]} | {what} | {100 * rate['rate']:.1f} % | {100 * low:.1f} to {100 * high:.1f} "
                    f"| {rate['n']} |"
                )


def engines(out: Path) -> Iterator[str]:
    yield "| sampler | weights | episodes at once | sampled tokens/s |"
    yield "|---|---|---|---|"
    result = read(out / "vllm.json")
    for row in [] if result is None else result["speed"]:
        yield f"| {row['policy']} | {row['dtype']} | {row['episodes']} | {row['tokens_per_s']:.0f} |"


def num_steps(run: Path) -> int:
    """Return the steps of a run that are done."""
    path = run / "metrics.jsonl"
    return len(read_metrics(path)) if path.is_file() else 0


def read(path: Path) -> Any:
    """Return the content of a JSON file, None if there is none."""
    return json.loads(path.read_text()) if path.is_file() else None
