"""Reflect, then retry: half of the group is played, each episode is reported on, and the report guides a retry.

One strategy with options (`rollout.reflect`) for three published methods:

- R3L (arXiv 2601.03715): restart at the pivot, guidance taken out of the context that is trained, auxiliary samples.
- Reflect-GRPO (baseline of that paper): restart from the first turn, guidance kept in the trained context.
- Critique-GRPO (arXiv 2506.03106): after every report a restart from the first turn, guidance taken out, best joins.

With several agents the report covers the turns of all, so its pivot also names an agent: only that agent is guided.
If that agent is not trained, the pivot moves to the next turn of one that is. The turns before the pivot are kept. Each
agent that takes a turn in the retry gets it as a trajectory, with a `pivot` that counts its own turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from agentgym_rft.agents.reflect import Outcome, Refusal, Report, guidance_text, wants_retry
from agentgym_rft.config.run import ReflectSection
from agentgym_rft.core import Group, StopReason, Trajectory, Turn, add_reward
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, fork
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.strategies.base import GroupPlan, RolloutWorkers, register_strategy
from agentgym_rft.rollouts.strategies.plain import attempts
from agentgym_rft.rollouts.strategies.retry_pair import (
    MAX_REWARD,
    RetryPair,
    is_correction,
    is_usable,
    record,
    retry_return,
)

AGENT = ("role", "player", "is_trained")  # what says whose a trajectory is, where there are several agents


@register_strategy("reflect_retry", "rollout.reflect")
async def reflect_retry(plan: GroupPlan, workers: RolloutWorkers) -> Group:
    """A group of half as many episodes, and the retries that their reflections led to.

    The base episode stays as it was if its report is not valid, or if its retry failed, had no room, or speaks of its
    guidance. The base trajectory's `info["reflection"]` says which.
    """
    options = plan.reflect
    num_bases = max(plan.group_size // 2, 1)
    pairs = await asyncio.gather(*(_retry_pair(plan, workers, member) for member in range(num_bases)))
    joining = {id(pair) for pair in _joining(pairs, options)}
    return Group(
        group_id=plan.base.group_id,
        task_id=plan.base.task_id,
        trajectories=tuple(t for pair in pairs for t in _members(pair, options, joins=id(pair) in joining)),
        auxiliary=tuple(t for pair in pairs for t in _auxiliary(pair, options)),
    )


async def _retry_pair(plan: GroupPlan, workers: RolloutWorkers, member: int) -> RetryPair:
    options = plan.reflect
    needs_distance = options.reflector == "hindsight" or options.measure_pivots
    base_spec = replace(plan.base, record_snapshots=True, record_remaining=needs_distance)
    *failed, base = await attempts(replace(plan, base=base_spec), workers, member)
    errored = tuple(trajectory for played in failed for trajectory in played.trajectories)
    if base.trajectory.is_error or not base.trajectory.turns:
        return RetryPair(errored, base)
    reflection = await workers.reflect(base)
    report = reflection.report
    if isinstance(report, Refusal) or not (wants_retry(report) or options.trigger == "always"):
        return RetryPair(errored, base, reflection)
    target = _target(base, report.retry_from_step or 0)
    if target is None:
        return RetryPair(errored, base, reflection)
    turn, guided = target
    start = fork(base, 0 if options.restart == "start" else turn, guidance_text(report), agent=guided)
    retry = await workers.record(_retry_spec(plan.base, base), start)
    return RetryPair(errored, base, reflection, retry, guided)


def _target(base: EpisodeRecord, pivot: int) -> tuple[int, str] | None:
    """Return the turn to go back to and who is guided from there on; None if no agent that is trained has a turn from
    it on.

    The only agent of an environment that does not name it is "".
    """
    trained = [agent for agent in base.agents if base.of(agent).info.get("is_trained", True)]
    later = enumerate(base.trajectory.turns[pivot:], pivot)
    return next(((n, agent) for n, turn in later if (agent := str(turn.info.get("agent", ""))) in trained), None)


def _retry_spec(base_spec: EpisodeSpec, base: EpisodeRecord) -> EpisodeSpec:
    name = f"{base.trajectory.episode_id}/retry"
    return replace(base_spec, episode_id=name, seed=derive_seed(base.seed, "retry"))


def _joining(pairs: list[RetryPair], options: ReflectSection) -> list[RetryPair]:
    """Return the pairs whose retry joins the group: all that can, or those with the best returns, the first of
    equals.
    """
    able = [pair for pair in pairs if is_usable(pair, options)]
    if options.num_joined is None:
        return able
    return sorted(able, key=lambda pair: -retry_return(pair))[: options.num_joined]


def _members(pair: RetryPair, options: ReflectSection, *, joins: bool) -> list[Trajectory]:
    """Return the trajectories of the group.
    Base and retry carry their `pivot` only if they share the turns before it.
    """
    base, retry = pair.base, pair.retry
    joining = [agent for agent in base.agents if joins and pair.goes_on(agent)]
    marked = joining if options.restart == "pivot" else []
    members = [*pair.errored]
    for agent in base.agents:
        told = {}
        if pair.reflection is not None and agent == pair.reporting_agent:
            told["reflection"] = record(pair, pair.reflection, options)
        members.append(_told(base.of(agent), {**_mark(pair, agent, marked), **told}))
    if retry is not None and retry.trajectory.is_error:
        members += [member for member in retry.trajectories if member.is_error]  # counted, never trained
    if retry is not None:
        members += [_told(_trained(retry, agent, pair, options), _mark(pair, agent, marked)) for agent in joining]
    return members


def _told(trajectory: Trajectory, facts: dict[str, object]) -> Trajectory:
    return replace(trajectory, info={**trajectory.info, **facts})


def _mark(pair: RetryPair, agent: str, marked: Sequence[str]) -> dict[str, object]:
    return {"pivot": pair.pivot_of(agent)} if agent in marked else {}


def _trained(retry: EpisodeRecord, agent: str, pair: RetryPair, options: ReflectSection) -> Trajectory:
    """Return an agent's trajectory of a retry, as it is trained: without the guidance, if it is to be distilled."""
    is_distilled = options.distill and agent == pair.guided
    return retry.unguided if is_distilled and retry.unguided is not None else retry.of(agent)


def _auxiliary(pair: RetryPair, options: ReflectSection) -> list[Trajectory]:
    """Samples to imitate: reflection and guided retry of a verified correction, and correct reports of success."""
    if not options.auxiliary or pair.reflection is None:
        return []
    report, turn = pair.reflection.report, pair.reflection.turn
    samples: list[Trajectory] = []
    is_corrected = is_correction(pair, options)
    is_confirmed = (
        isinstance(report, Report)
        and report.trajectory_outcome is Outcome.SUCCESS
        and pair.base.of(pair.guided).episode_return >= MAX_REWARD
    )
    if (is_corrected or is_confirmed) and turn is not None and turn.trainable:
        samples.append(_reflection_sample(pair.base.of(pair.reporting_agent), turn))
    if is_corrected and pair.retry is not None:
        samples.append(_guided_sample(pair.retry.of(pair.guided), pair.pivot_of(pair.guided)))
    return samples


def _reflection_sample(base: Trajectory, turn: Turn) -> Trajectory:
    sample = Trajectory(
        task_id=base.task_id,
        group_id=base.group_id,
        episode_id=f"{base.episode_id}/reflection",
        turns=(turn,),
        stop_reason=StopReason.SUCCESS,
        agent_id=base.agent_id,
        parent_id=base.episode_id,
        info={"kind": "reflection", **{key: base.info[key] for key in AGENT if key in base.info}},
    )
    return add_reward(sample, "verified", {-1: 1.0})


def _guided_sample(retry: Trajectory, pivot: int) -> Trajectory:
    """Return the retry under its guidance; only its own turns are trained."""
    prefix = tuple(replace(turn, trainable=False) for turn in retry.turns[:pivot])
    return replace(
        retry,
        episode_id=f"{retry.episode_id}/guided",
        turns=(*prefix, *retry.turns[pivot:]),
        info={**retry.info, "kind": "guided_retry"},
    )
