"""One evaluation, from its configuration to its summary; what `agentgym eval` does when all options are read."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from agentgym_rft.agents.card import card_label
from agentgym_rft.agents.policies.seeds import full_policy_name
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.making import make_env, seats_of
from agentgym_rft.envs.panels import (
    FrozenPanel,
    assert_held_out,
    check_panel,
    lasting_options,
    load_panel,
    quoted_split,
)
from agentgym_rft.errors import ConfigError, PolicyError
from agentgym_rft.evaluation.panel import EvaluationPlan, PanelWorkers, evaluate
from agentgym_rft.evaluation.partial import PartialEvaluation
from agentgym_rft.evaluation.players import ENDPOINT, AgentWorkers, at_endpoint, check_script, text_workers
from agentgym_rft.evaluation.progress import evaluation_progress
from agentgym_rft.evaluation.seat_policies import policy_for, seat_policies
from agentgym_rft.evaluation.team import EvaluationPolicies
from agentgym_rft.report.evaluation import EvaluationSettings, Summary, protocol, summarise
from agentgym_rft.rollouts.episode.players import scripted
from agentgym_rft.rollouts.outcome import why_unplayed
from agentgym_rft.rollouts.seats import SCRIPTS, Agents
from agentgym_rft.rollouts.workers.env_maker import env_maker


@dataclass(frozen=True, slots=True)
class Request:
    """What to evaluate.

    `config` says the environment, the agent, the policy and the panel; `frozen`, if given, is the panel instead. With
    `out`, finished episodes are kept beside it until the result is there.
    """

    config: Config
    policy: str | None  # as it was named; None: `seats` names one for every agent
    samples: int = 1
    frozen: FrozenPanel | None = None
    out: Path | None = None
    seats: tuple[str, ...] = ()  # AGENT=POLICY or ROLE=POLICY, where there are several agents


@dataclass(frozen=True, slots=True)
class EvaluatedAgents:
    """Who plays: `label` in the result; of several agents the role and the policy of each, else both are empty."""

    label: str
    policies: frozenset[str]
    roles: Mapping[str, str]
    seats: Mapping[str, str]


def find_evaluated(request: Request) -> EvaluatedAgents:
    """Who plays. Raises `ConfigError` where a seat has two policies or none, or is not there."""
    config, named = request.config, request.policy
    roles = seats_of(config.env.id, config.env.options)
    rest = None if named is None else config.policy.path
    found = seat_policies(roles, request.seats, rest, config.team.seats)
    seats = {a: policy_for(full_policy_name(policy, config.env.id), roles[a]) for a, policy in found.items()}
    if not seats:
        assert named is not None, "an environment of one agent has refused --seat"
        return EvaluatedAgents(named, frozenset({named if named in SCRIPTS else config.policy.path}), roles, seats)
    shown = {agent: named if policy == rest else policy for agent, policy in found.items()}
    label = str(named) if set(shown.values()) == {named} else ", ".join(f"{a}={p}" for a, p in shown.items())
    return EvaluatedAgents(label, frozenset(seats.values()), roles, seats)


def run_evaluation(request: Request) -> Summary:
    """Play the panel and summarise it.

    Raises:
        ConfigError, DataError, CheckpointError: what cannot work, or an evaluation under way with other settings.
        PolicyError: no episode could be played.
    """
    evaluated = find_evaluated(request)
    _check_decoding(request, evaluated)
    fixed = held_out_panel(request.config, request.frozen, evaluated.policies)
    loaded = EvaluationPolicies(request.config, evaluated.roles) if evaluated.seats else None
    agents = () if loaded is None else loaded.agents(evaluated.seats)
    workers, card = _open_players(request.config) if loaded is None else (loaded.workers(agents), _cards(agents))
    try:
        settings = _settings(request, evaluated, fixed, card)
        plan = _plan(request, fixed)
        with _partial(request, evaluated, fixed, settings) as partial:
            trajectories, wall_time_s = _play(workers, plan, partial)
            if problem := why_unplayed(trajectories, workers.max_context):
                if partial is not None:
                    partial.remove()  # or the same command would find nothing left to play
                raise PolicyError(f"Every episode {problem}")
            summary = summarise(trajectories, fixed.panel, settings, wall_time_s)
            temperature = 1.0 if settings.temperature is None else settings.temperature
            return summary if loaded is None else summary | loaded.exact(agents, temperature)
    finally:
        workers.close()


def partial_path(out: Path) -> Path:
    """Where the finished episodes of an evaluation that writes to `out` are kept."""
    return out.with_name(f"{out.name}.partial.jsonl")


def _check_decoding(request: Request, evaluated: EvaluatedAgents) -> None:
    is_sampled = request.config.eval.temperature > 0 or not set(SCRIPTS).isdisjoint(evaluated.policies)
    if request.samples > 1 and not is_sampled:
        raise ConfigError(
            f"--samples {request.samples} at temperature 0 would play every task {request.samples} times alike. "
            "Give --temperature, for example 1."
        )


def held_out_panel(config: Config, frozen: FrozenPanel | None, policies: Set[str]) -> FrozenPanel:
    """The panel, checked against the training split; its options are those of the environment that is played."""
    env = make_env(config.env.id, config.env.options)
    try:
        for policy in policies & set(SCRIPTS):
            check_script(policy, env)
        options = lasting_options(env, config.env.options)
        if frozen is not None:
            check_panel(env, frozen)
            return FrozenPanel(frozen.panel, options, frozen.held_out_of)
        split = quoted_split(env, config.eval.split)
        panel = load_panel(env, split, config.eval.num_tasks or None, env_id=config.env.id)
        train = config.env.split if config.env.split in env.splits else env.splits[0]
        if split == train:
            return FrozenPanel(panel, options, None)
        assert_held_out(env, panel, train)
        return FrozenPanel(panel, options, train)
    finally:
        env.close()


def _cards(agents: Agents) -> str | None:
    """The labels of the agent cards of a team; None where only scripts play."""
    return ", ".join(dict.fromkeys(card_label(seat.card) for seat in agents if not seat.is_scripted)) or None


def _open_players(config: Config) -> tuple[PanelWorkers, str | None]:
    """What plays, and the label of its agent card, if it has one."""
    name = config.policy.path
    if name in SCRIPTS:
        return _text_workers(config, scripted(name)), None
    from agentgym_rft.agents.card import load_card
    from agentgym_rft.rollouts.make import open_workers

    card = load_card(config.agent)
    if name.startswith(ENDPOINT):
        return _text_workers(config, at_endpoint(name, card)), card_label(card)
    return open_workers(config), card_label(card)


def _text_workers(config: Config, make_player: Any) -> AgentWorkers:
    if config.rollout.workers == "ray":
        raise ConfigError(
            f"Workers on Ray sample from a model; the policy '{config.policy.path}' plays in this process. "
            "Give --workers local, or processes."
        )
    return text_workers(env_maker(config), make_player, max_concurrency=config.policy.max_concurrency)


def _settings(request: Request, evaluated: EvaluatedAgents, fixed: FrozenPanel, card: str | None) -> EvaluationSettings:
    config = request.config
    return EvaluationSettings(
        policy=evaluated.label,
        seed=config.run.seed,
        temperature=None if evaluated.policies <= set(SCRIPTS) else config.eval.temperature,
        max_steps=config.eval.max_steps,
        samples=request.samples,
        card=card,
        options=fixed.options,
        held_out_of=fixed.held_out_of,
    )


def _plan(request: Request, fixed: FrozenPanel) -> EvaluationPlan:
    config = request.config
    return EvaluationPlan(
        fixed.panel.task_ids,
        temperature=config.eval.temperature,
        seed=config.run.seed,
        max_steps=config.eval.max_steps,
        samples=request.samples,
        step_timeout_s=config.rollout.step_timeout_s,
    )


@contextmanager
def _partial(
    request: Request, evaluated: EvaluatedAgents, fixed: FrozenPanel, settings: EvaluationSettings
) -> Iterator[PartialEvaluation | None]:
    """The finished episodes beside `out`, kept until the caller has written the result; None without `out`."""
    if request.out is None:
        yield None
        return
    config = request.config
    depends_on = protocol(fixed.panel, settings) | {
        "policy": settings.policy,
        "weights": _fingerprints(config, evaluated),
        "seed": settings.seed,
        "max_context": config.policy.max_context,
        "step_timeout_s": config.rollout.step_timeout_s,
    }
    partial = PartialEvaluation(partial_path(request.out), depends_on)
    try:
        yield partial
    finally:
        partial.close()


def _fingerprints(config: Config, evaluated: EvaluatedAgents) -> str | dict[str, str | None] | None:
    """Of the policy, or with several agents of each policy by name."""
    if not evaluated.seats:
        return _fingerprint(config.policy.path)
    return {policy: _fingerprint(policy) for policy in sorted(evaluated.policies)}


def _fingerprint(policy: str) -> str | None:
    """A hash over names, sizes and times of a model's files: a run that trained on has other weights. None if none."""
    if policy in SCRIPTS or policy.startswith(ENDPOINT):
        return None
    from agentgym_rft.rollouts.policies import policy_dir

    files = sorted(path for path in policy_dir(policy).iterdir() if path.is_file())
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def _play(
    workers: PanelWorkers, plan: EvaluationPlan, partial: PartialEvaluation | None
) -> tuple[list[Trajectory], float]:
    """The trajectories and the seconds they took, those of an interrupted evaluation included."""
    finished: Mapping[str, Trajectory] = {} if partial is None else dict(partial.finished)
    before_s = 0.0 if partial is None else partial.elapsed_s
    num_episodes = len(plan.task_ids) * plan.samples
    if finished:
        typer.echo(f"going on: {len(finished)} of {num_episodes} episodes are there", err=True)
    start = time.perf_counter()
    with evaluation_progress(Console(file=sys.stderr), num_episodes, finished) as shown:

        def on_finished(trajectory: Trajectory) -> None:
            if partial is not None:
                partial.append(trajectory, before_s + time.perf_counter() - start)
            shown(trajectory)

        try:
            trajectories = evaluate(workers, plan, finished=finished, on_finished=on_finished)
        except KeyboardInterrupt:
            if partial is not None:
                kept = len(partial.finished)
                typer.echo(f"{kept} of {num_episodes} episodes are kept; the same command goes on.", err=True)
            raise
    return trajectories, before_s + time.perf_counter() - start
