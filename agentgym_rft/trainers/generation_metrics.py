"""Metrics of what a step sampled in all, and of what its reflections and counterfactual continuations led to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from agentgym_rft.agents.reflect import Refusal
from agentgym_rft.core import Group


def generation_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Turns and tokens that were sampled: episodes, errored ones included, reflections, and what was played from forks.

    A retry's turns are counted by its base episode's `info["reflection"]`, because not every retry joins its group, and
    those of counterfactual continuations by `info["counterfactual"]`.
    """
    played = [t for group in groups for t in group.trajectories if t.parent_id is None]
    reflections: list[Mapping[str, Any]] = [t.info["reflection"] for t in played if "reflection" in t.info]
    continued: list[Mapping[str, Any]] = [t.info["counterfactual"] for t in played if "counterfactual" in t.info]
    forked = [*reflections, *continued]
    metrics = {
        "rollout/turns": float(sum(len(t.turns) for t in played) + sum(each["turns"] for each in forked)),
        "rollout/generated_tokens": float(
            sum(t.num_action_tokens for t in played) + sum(each["tokens"] for each in forked)
        ),
    }
    if reflections:
        metrics |= reflection_metrics(reflections)
    return metrics | counterfactual_metrics(continued) if continued else metrics


def counterfactual_metrics(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What counterfactual credit cost, and the mean of its differences; that is left out where there is none."""
    differences = [difference for record in records for difference in record["differences"].values()]
    metrics = {
        "counterfactual/episodes": float(sum(record["episodes"] for record in records)),
        "counterfactual/errors": float(sum(record["errors"] for record in records)),
        "counterfactual/turns": float(sum(record["turns"] for record in records)),
        "counterfactual/tokens": float(sum(record["tokens"] for record in records)),
        "counterfactual/replaced": float(len(differences)),
    }
    return metrics | {"counterfactual/difference": fmean(differences)} if differences else metrics


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
