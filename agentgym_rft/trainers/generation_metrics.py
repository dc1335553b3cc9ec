"""Metrics of what a step sampled in all, and of what its reflections led to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.agents.reflect import Refusal
from agentgym_rft.core import Group


def generation_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Turns and tokens that were sampled: episodes, errored ones included, reflections, and retries from their fork on.

    A retry's turns are counted by its base episode's `info["reflection"]`, because not every retry joins its group.
    """
    played = [t for group in groups for t in group.trajectories if t.parent_id is None]
    reflections: list[Mapping[str, Any]] = [t.info["reflection"] for t in played if "reflection" in t.info]
    metrics = {
        "rollout/turns": float(sum(len(t.turns) for t in played) + sum(r["turns"] for r in reflections)),
        "rollout/generated_tokens": float(
            sum(t.num_action_tokens for t in played) + sum(r["tokens"] for r in reflections)
        ),
    }
    return metrics | reflection_metrics(reflections) if reflections else metrics


def reflection_metrics(reflections: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Shares of reflections and of retries; what no reflection or retry could tell is left out."""
    retries = [r for r in reflections if r["retry"]]
    judged = [r for r in reflections if r["pivot"] is not None and r["oracle_pivot"] is not None]
    refused = Counter(r["refused"] for r in reflections)
    metrics = {
        "reflect/num": float(len(reflections)),
        "reflect/valid": refused[""] / len(reflections),
        **{f"reflect/refused_{reason.value}": refused[reason.value] / len(reflections) for reason in Refusal},
        "reflect/retries": float(len(retries)),
    }
    if retries:
        metrics |= {
            "reflect/improved": sum(r["improved"] for r in retries) / len(retries),
            "reflect/leaked": sum(r["leaked"] for r in retries) / len(retries),
            "reflect/verified": sum(r["verified"] for r in retries) / len(retries),
        }
    if judged:
        metrics["reflect/pivot_near"] = sum(abs(r["pivot"] - r["oracle_pivot"]) <= 1 for r in judged) / len(judged)
    return metrics
