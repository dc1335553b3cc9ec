"""Metrics of a step's episodes, and of its reflections and counterfactual continuations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from agentgym_rft.agents.reflect import Refusal
from agentgym_rft.core import Group
from agentgym_rft.report.evaluation import mean_measures
from agentgym_rft.trainers.batch.groups import has_signal


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
    """Return the cost of counterfactual credit, and the mean of its differences if there are any."""
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
    """Return shares of reflections and of retries; what no reflection or retry could tell is left out."""
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


def seat_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Return the metrics `seat/AGENT/...`: means over an agent's trajectories without an error; {} for one agent."""
    valid = [t for group in groups for t in group.valid if "role" in t.info and t.parent_id is None]
    metrics: dict[str, float] = {}
    for agent in sorted({t.agent_id for t in valid}):
        own = [t for t in valid if t.agent_id == agent]
        metrics |= {
            f"seat/{agent}/success": fmean(t.won for t in own),
            f"seat/{agent}/score": fmean(float(t.info["score"]) for t in own),
            f"seat/{agent}/return": fmean(t.episode_return for t in own),
            f"seat/{agent}/turns": fmean(len(t.turns) for t in own),
        }
    return metrics


Metrics = dict[str, float]


def idle_share(processor_s: float, wall_s: float, num_cores: int) -> float:
    """Return the share of the cores' time in which a process used none, in [0, 1].

    Args:
        processor_s: processor time of all its threads.
        num_cores: those that it may use.
    """
    return min(max(1 - processor_s / (wall_s * num_cores), 0.0), 1.0)


def rollout_metrics(groups: Sequence[Group], errors: dict[str, int]) -> Metrics:
    """Return the metrics of a step's episodes. Means are over the trajectories without an error, retries left out."""
    valid = [trajectory for group in groups for trajectory in group.valid if trajectory.parent_id is None]
    turns = [turn for trajectory in valid for turn in trajectory.turns]
    invalid = Counter(bool(turn.info.get("invalid_action")) for turn in turns)
    per_episode = max(len(valid), 1)
    return {
        "episode/num": float(len(valid)),
        "episode/success": sum(t.won for t in valid) / per_episode,
        "episode/score": sum(float(t.info.get("score", t.won)) for t in valid) / per_episode,
        "episode/return": sum(t.episode_return for t in valid) / per_episode,
        "episode/turns": len(turns) / per_episode,
        "episode/action_tokens": sum(t.num_action_tokens for t in valid) / per_episode,
        "episode/invalid_actions": invalid[True] / max(len(turns), 1),
        "episode/errors": float(sum(errors.values())),
        "group/num": float(len(groups)),
        "group/without_signal": float(sum(not has_signal(group) for group in groups)),
        **{f"measure/{name}": value for name, value in mean_measures(valid).get("measures", {}).items()},
        **{f"error/{reason}": float(count) for reason, count in errors.items()},
        **generation_metrics(groups),
    }
