"""How well a policy reports on its own episodes and uses a report: on tasks it was not trained on.

    python benchmarks/reflection.py [--policy seed] [--split valid_unseen] [--episodes 400] [--out result.json]

The policy plays tasks at temperature 1 and writes a report. Measured are:

- valid reports: those that parse and follow the rules, of all episodes with a turn; and how many of them are right
  about success or failure.
- pivots: for failed episodes with a valid report, whether the report's turn is within one of the turn of hindsight
  (the first after which the shortest completion grew; the start if it never grew). Beside it the same for a turn drawn
  from the episode at random and for always the first turn.
- retries: failed episodes played on from the report's turn under the same step limit, three times with the same seeds
  of sampling: with the report as guidance, without any (the control), and with the report that hindsight would have
  written, for comparison. An improvement is a retry that is won.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import describe

from agentgym_rft.agents.reflect import Outcome, Refusal, Report, format_report, guidance_text
from agentgym_rft.config.load import load_config
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.making import make_env
from agentgym_rft.report.intervals import mean_ci, wilson
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, fork
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.make import open_workers
from agentgym_rft.rollouts.reflection.hindsight import lesson_report, pivot_of
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.local import LocalWorkers


@dataclass(frozen=True, slots=True)
class Case:
    """An episode, what the policy reported, how many tokens that took, and the retries of a failed one."""

    base: EpisodeRecord
    report: Report | Refusal
    num_tokens: int
    hindsight: Report
    guided: EpisodeRecord | None = None
    unguided: EpisodeRecord | None = None
    told: EpisodeRecord | None = None  # guided by the report of hindsight, from the same turn

    @property
    def pivot_error(self) -> int | None:
        """Turns between the report's pivot and that of hindsight; None unless both are about a failure."""
        if self.base.trajectory.won or isinstance(self.report, Refusal) or self.report.retry_from_step is None:
            return None
        return abs(self.report.retry_from_step - true_pivot(self.base))

    @property
    def has_right_suggestion(self) -> bool:
        """True if the report suggests what that of hindsight does."""
        if isinstance(self.report, Refusal):
            return False
        return self.report.improvement_suggestion == self.hindsight.improvement_suggestion


def true_pivot(base: EpisodeRecord) -> int:
    return pivot_of([left for left in base.remaining if left is not None])


async def study(workers: LocalWorkers, judge: TextEnv, spec: EpisodeSpec) -> Case | None:
    """One episode with its report and its retries; None if it had no turn."""
    base = await workers.record(spec)
    if base.trajectory.is_error or not base.trajectory.turns:
        return None
    reflection = await workers.reflect(base)
    hindsight = lesson_report(judge, base.trajectory)
    assert hindsight is not None, "the own engine tells distances"
    num_tokens = 0 if reflection.turn is None else len(reflection.turn.action_ids)
    case = Case(base, reflection.report, num_tokens, hindsight)
    report = reflection.report
    if base.trajectory.won or isinstance(report, Refusal) or report.retry_from_step is None:
        return case
    turn = report.retry_from_step
    notes = {"guided": guidance_text(report), "unguided": "", "told": guidance_text(hindsight)}
    names = {kind: replace(spec, episode_id=f"{spec.episode_id}/{kind}", seed=spec.seed + 1) for kind in notes}
    played = await asyncio.gather(
        *(workers.record(names[kind], fork(base, turn, note)) for kind, note in notes.items())
    )
    return replace(case, guided=played[0], unguided=played[1], told=played[2])


def play(workers: LocalWorkers, judge: TextEnv, split: str, num_episodes: int, max_steps: int) -> list[Case]:
    ids = judge.task_ids(split)
    tasks = [ids[i * len(ids) // num_episodes % len(ids)] for i in range(num_episodes)]  # spread over the panel

    async def all_of_them() -> list[Case | None]:
        specs = [
            EpisodeSpec(
                task_id=task_id,
                group_id=task_id,
                episode_id=f"{number}",
                seed=derive_seed(0, "reflection", number),
                temperature=1.0,
                max_steps=max_steps,
                max_context=workers.max_context,
                record_snapshots=True,
                record_remaining=True,
            )
            for number, task_id in enumerate(tasks)
        ]
        return list(await asyncio.gather(*(study(workers, judge, spec) for spec in specs)))

    return [case for case in workers.run(all_of_them) if case is not None]


def rate(flags: Sequence[bool]) -> dict[str, Any]:
    """A share with its Wilson 95 % interval."""
    low, high = wilson(sum(flags), len(flags))
    return {"n": len(flags), "rate": sum(flags) / max(len(flags), 1), "ci95": [low, high]}


def measure(cases: Sequence[Case], temperature: float) -> dict[str, Any]:
    failed = [case for case in cases if not case.base.trajectory.won]
    errors = [case.pivot_error for case in failed if case.pivot_error is not None]
    judged = [case for case in failed if case.pivot_error is not None]
    chance = []
    for case in judged:
        pivot, number = true_pivot(case.base), len(case.base.trajectory.turns)
        chance.append(sum(abs(k - pivot) <= 1 for k in range(number)) / number)
    retried = [case for case in failed if case.guided and case.unguided and case.told]
    won = {
        kind: [bool(played and played.trajectory.won) for played in (getattr(case, kind) for case in retried)]
        for kind in ("guided", "unguided", "told")
    }
    gains = [float(a) - float(b) for a, b in zip(won["guided"], won["unguided"], strict=True)]
    gain, interval = mean_ci(gains or [0.0])
    outcomes = [
        (case.report.trajectory_outcome is Outcome.FAILURE) != case.base.trajectory.won
        for case in cases
        if isinstance(case.report, Report)
    ]
    return {
        "episodes": len(cases),
        "base_success": rate([case.base.trajectory.won for case in cases]),
        "valid_reports": rate([isinstance(case.report, Report) for case in cases]),
        "refusals": dict(Counter(case.report.value for case in cases if isinstance(case.report, Refusal))),
        "report_temperature": temperature,
        "report_tokens": mean_ci([float(case.num_tokens) for case in cases])[0],
        "right_outcome": rate(outcomes),
        "same_suggestion_as_hindsight": rate([case.has_right_suggestion for case in judged]),
        "pivot_within_1": rate([error <= 1 for error in errors]),
        "pivot_exact": rate([error == 0 for error in errors]),
        "pivot_within_1_random_turn": sum(chance) / max(len(chance), 1),
        "pivot_within_1_first_turn": rate([true_pivot(case.base) <= 1 for case in judged]),
        "retries": {kind: rate(flags) for kind, flags in won.items()},
        "guided_minus_unguided": {"mean": gain, "ci95": list(interval)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="seed")
    parser.add_argument("--split", default="valid_unseen")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--max-steps", type=int, default=30)
    parser.add_argument("--temperature", type=float, help="of reports; default: that of the agent card")
    parser.add_argument("--show", type=int, default=0, help="print so many failed cases")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {"admissible": False}
    reflect = {} if args.temperature is None else {"reflect": {"temperature": args.temperature}}
    settings = [(["policy", "path"], args.policy), (["env", "options"], options), (["agent", "overrides"], reflect)]
    config = load_config(None, settings)
    workers = open_workers(config)
    judge = make_env(config.env.id, options)
    cases = play(workers, judge, args.split, args.episodes, args.max_steps)
    for case in [case for case in cases if not case.base.trajectory.won][: args.show]:
        said = case.report.value if isinstance(case.report, Refusal) else format_report(case.report)
        retry = case.guided.trajectory if case.guided else None
        actions = [turn.info["text"] for turn in retry.turns[retry.fork_turn or 0 :]] if retry else []
        print(f"hindsight {format_report(case.hindsight)}\npolicy    {said}\nguided    {actions[:8]}\n")
    result = {
        "machine": describe(),
        "policy": args.policy,
        "split": args.split,
        **measure(cases, workers.card.reflect.temperature),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
