"""Reflect, then retry: half of the group plays, each episode is reflected upon and, where that helps, tried again.

One strategy with options (`rollout.reflect`) for three published methods:

- R3L (arXiv 2601.03715): restart at the pivot, guidance taken out of the context that is trained, auxiliary samples.
- Reflect-GRPO (baseline of that paper): restart from the first turn, guidance kept in the trained context.
- Critique-GRPO (arXiv 2506.03106): after every report a restart from the first turn, guidance taken out, best joins.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from agentgym_rft.agents.reflect import Outcome, Refusal, Report, guidance_text, leaks, wants_retry
from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.rollouts.episode import EpisodeSpec
from agentgym_rft.rollouts.forks import Played, fork
from agentgym_rft.rollouts.hindsight import pivot_of
from agentgym_rft.rollouts.reflectors import Reflection
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.strategies.base import GroupPlan, Player, attempts
from agentgym_rft.sections import ReflectSection

MAX_REWARD = 1.0  # of the rule of the released code: a return from here on is a success


@dataclass(frozen=True, slots=True)
class Lineage:
    """A base episode and what came of it."""

    errored: tuple[Trajectory, ...]  # earlier attempts of the base
    base: Played
    reflection: Reflection | None = None  # None: there was nothing to reflect on
    retry: Played | None = None

    @property
    def pivot(self) -> int:
        """The turn that the retry started from."""
        return self.retry.trajectory.fork_turn or 0 if self.retry else 0

    @property
    def new_turns(self) -> tuple[Turn, ...]:
        """The retry's own turns."""
        return self.retry.trajectory.turns[self.pivot :] if self.retry else ()


async def reflect_retry(plan: GroupPlan, player: Player) -> Group:
    """A group of half as many episodes, and the retries that their reflections led to.

    A report that is not valid, a retry that failed, that had no room or that speaks of its guidance leaves the base
    episode as it was. What became of each reflection is in its base trajectory's `info["reflection"]`.
    """
    options = plan.reflect
    num_bases = max(plan.group_size // 2, 1)
    lineages = await asyncio.gather(*(_lineage(plan, player, member) for member in range(num_bases)))
    joining = {id(lineage) for lineage in _joining(lineages, options)}
    return Group(
        group_id=plan.base.group_id,
        task_id=plan.base.task_id,
        trajectories=tuple(t for line in lineages for t in _members(line, options, joins=id(line) in joining)),
        auxiliary=tuple(t for line in lineages for t in _auxiliary(line, options)),
    )


async def _lineage(plan: GroupPlan, player: Player, member: int) -> Lineage:
    options = plan.reflect
    needs_distance = options.reflector == "hindsight" or options.measure_pivots
    base_spec = replace(plan.base, record_snapshots=True, record_remaining=needs_distance)
    *failed, base = await attempts(replace(plan, base=base_spec), player, member)
    errored = tuple(played.trajectory for played in failed)
    if base.trajectory.is_error or not base.trajectory.turns:
        return Lineage(errored, base)
    reflection = await player.reflect(base)
    report = reflection.report
    if isinstance(report, Refusal) or not (wants_retry(report) or options.trigger == "always"):
        return Lineage(errored, base, reflection)
    turn = 0 if options.restart == "start" else report.retry_from_step or 0
    retry = await player.record(_retry_spec(plan.base, base), fork(base, turn, guidance_text(report)))
    return Lineage(errored, base, reflection, retry)


def _retry_spec(base_spec: EpisodeSpec, base: Played) -> EpisodeSpec:
    name = f"{base.trajectory.episode_id}/retry"
    return replace(base_spec, episode_id=name, seed=derive_seed(base.seed, "retry"))


def _joining(lineages: list[Lineage], options: ReflectSection) -> list[Lineage]:
    """The lineages whose retry joins the group: all that can, or those with the best returns, the first of equals."""
    able = [lineage for lineage in lineages if is_usable(lineage, options)]
    if options.num_joined is None:
        return able
    return sorted(able, key=lambda lineage: -_retry_return(lineage))[: options.num_joined]


def is_usable(lineage: Lineage, options: ReflectSection) -> bool:
    """True if there is a retry without an error, with a turn of its own, that may be trained."""
    if lineage.retry is None or lineage.retry.trajectory.is_error or not lineage.new_turns:
        return False
    return not (options.distill and _leaked(lineage))


def _leaked(lineage: Lineage) -> bool:
    return any(leaks(str(turn.info["text"])) for turn in lineage.new_turns)


def _retry_return(lineage: Lineage) -> float:
    return lineage.retry.trajectory.episode_return if lineage.retry else 0.0


def is_verified(base: Trajectory, retry: Trajectory, options: ReflectSection) -> bool:
    """True if a retry is a verified correction of its base.

    `paper`: its return is higher. `code` (the authors' release): it also reaches 1, or reaches 1 in fewer turns.
    """
    improved = retry.episode_return > base.episode_return
    if options.verified_rule == "paper":
        return improved
    is_shorter = len(retry.turns) < len(base.turns)
    return retry.episode_return >= MAX_REWARD and (improved or is_shorter)


def _members(lineage: Lineage, options: ReflectSection, *, joins: bool) -> list[Trajectory]:
    """The trajectories of the group. Base and retry carry their `pivot` only if they share the turns before it."""
    mark = {"pivot": lineage.pivot} if joins and options.restart == "pivot" else {}
    base = lineage.base.trajectory
    info = {**base.info, **mark}
    if lineage.reflection is not None:
        info["reflection"] = _record(lineage, lineage.reflection, options)
    members = [*lineage.errored, replace(base, info=info)]
    if lineage.retry is not None and lineage.retry.trajectory.is_error:
        members.append(lineage.retry.trajectory)  # counted, never trained
    if lineage.retry is not None and joins:
        unguided = lineage.retry.unguided if options.distill else None
        retry = unguided or lineage.retry.trajectory
        members.append(replace(retry, info={**retry.info, **mark}))
    return members


def _auxiliary(lineage: Lineage, options: ReflectSection) -> list[Trajectory]:
    """Samples to imitate: reflection and guided retry of a verified correction, and correct reports of success."""
    if not options.auxiliary or lineage.reflection is None:
        return []
    base, report = lineage.base.trajectory, lineage.reflection.report
    samples: list[Trajectory] = []
    corrected = (
        lineage.retry is not None
        and is_usable(lineage, options)
        and is_verified(base, lineage.retry.trajectory, options)
    )
    confirmed = (
        isinstance(report, Report)
        and report.trajectory_outcome is Outcome.SUCCESS
        and base.episode_return >= MAX_REWARD
    )
    turn = lineage.reflection.turn
    if (corrected or confirmed) and turn is not None and turn.trainable:
        samples.append(_reflection_sample(base, turn))
    if corrected and lineage.retry is not None:
        samples.append(_guided_sample(lineage.retry.trajectory, lineage.pivot))
    return samples


def _reflection_sample(base: Trajectory, turn: Turn) -> Trajectory:
    return Trajectory(
        task_id=base.task_id,
        group_id=base.group_id,
        episode_id=f"{base.episode_id}/reflection",
        turns=(turn,),
        stop_reason=StopReason.SUCCESS,
        parent_id=base.episode_id,
        rewards={"verified": 1.0},
        info={"kind": "reflection"},
    )


def _guided_sample(retry: Trajectory, pivot: int) -> Trajectory:
    """The retry under its guidance; only its own turns are trained."""
    prefix = tuple(replace(turn, trainable=False) for turn in retry.turns[:pivot])
    return replace(
        retry,
        episode_id=f"{retry.episode_id}/guided",
        turns=(*prefix, *retry.turns[pivot:]),
        info={**retry.info, "kind": "guided_retry"},
    )


def _record(lineage: Lineage, reflection: Reflection, options: ReflectSection) -> dict[str, Any]:
    """What became of a reflection, for the metrics and for the trajectory file."""
    report, turn = reflection.report, reflection.turn
    base, retry = lineage.base.trajectory, lineage.retry.trajectory if lineage.retry else None
    left = [number for number in lineage.base.remaining if number is not None]
    is_known = len(left) == len(base.turns) + 1
    is_played = retry is not None and not retry.is_error
    sampled = [*([turn] if turn else []), *lineage.new_turns]
    return {
        "text": reflection.text,
        "refused": report.value if isinstance(report, Refusal) else "",
        "outcome": report.trajectory_outcome.value if isinstance(report, Report) else "",
        "pivot": report.retry_from_step if isinstance(report, Report) else None,
        "oracle_pivot": pivot_of(left) if is_known else None,
        "retry": retry.stop_reason.value if retry else "",
        "improved": is_played and retry is not None and retry.episode_return > base.episode_return,
        "leaked": options.distill and _leaked(lineage),
        "verified": is_usable(lineage, options) and retry is not None and is_verified(base, retry, options),
        "turns": len(lineage.new_turns),
        "tokens": sum(len(each.action_ids) for each in sampled),
    }
