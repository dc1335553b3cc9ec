"""One evaluation, from its configuration to its summary; what `agentgym eval` does when all options are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentgym_rft.config.run import Config
from agentgym_rft.envs.panels import Panel
from agentgym_rft.errors import ConfigError
from agentgym_rft.evaluation.agents import EvaluatedAgents, find_evaluated, open_evaluated
from agentgym_rft.evaluation.panel import make_settings, open_panel, play_panel
from agentgym_rft.evaluation.partial import PartialEvaluation, partial_path
from agentgym_rft.evaluation.players import ENDPOINT
from agentgym_rft.evaluation.progress import EvaluationProgress, NoEvaluationProgress
from agentgym_rft.report.evaluation import EvaluationSettings, Summary, protocol
from agentgym_rft.rollouts.seats import SCRIPTS


@dataclass(frozen=True, slots=True)
class Request:
    """An evaluation as it was asked for.

    `config` says the environment, the agent, the policy and the panel; `panel`, if given, is played instead. With
    `out`, finished episodes are kept beside it until the result is there.
    """

    config: Config
    policy: str | None  # as it was named; None: `agent_policies` names one for every agent
    samples: int = 1
    panel: Panel | None = None
    out: Path | None = None
    agent_policies: tuple[str, ...] = ()  # AGENT=POLICY or ROLE=POLICY, where there are several agents


def run_evaluation(
    request: Request,
    progress: EvaluationProgress | None = None,
    keep: Callable[[Summary], object] | None = None,
) -> Summary:
    """Play the panel and summarise it.

    Args:
        keep: writes the summary down. It is called before anything is closed, since that may fail in any way.
    Raises:
        ConfigError, DataError, CheckpointError: what cannot work, or an evaluation under way with other settings.
        PolicyError: no episode could be played.
    """
    config, samples = request.config, request.samples
    evaluated = find_evaluated(config, request.policy, request.agent_policies)
    _check_decoding(config, samples, evaluated)
    panel = open_panel(config, evaluated.policies, request.panel)
    agents = open_evaluated(config, evaluated)
    shown = progress or NoEvaluationProgress()
    for note in filter(None, (panel.unchecked, *agents.notes)):
        shown.note(note)
    try:
        settings = make_settings(
            config, evaluated.label, agents.card, samples=samples, is_scripted=evaluated.is_scripted
        )
        with _partial(request, evaluated, panel, settings) as partial:
            result = play_panel(agents.workers, config, panel, settings, partial=partial, progress=shown)
            if result.problem:
                if partial is not None:
                    partial.remove()  # or the same command would find nothing left to play
                raise result.problem.error("Every episode")
        exact = agents.exact(1.0 if settings.temperature is None else settings.temperature)
        notes = {"notes": [*result.summary["notes"], *agents.notes, *agents.late_notes()]}
        summary = result.summary | notes | exact
        if keep is not None:
            keep(summary)
        return summary
    finally:
        agents.workers.close()


def _check_decoding(config: Config, samples: int, evaluated: EvaluatedAgents) -> None:
    is_sampled = config.eval.temperature > 0 or not evaluated.policies.isdisjoint(SCRIPTS)
    if samples > 1 and not is_sampled:
        raise ConfigError(
            f"--samples {samples} at temperature 0 would play every task {samples} times alike. "
            "Give --temperature, for example 1."
        )


@contextmanager
def _partial(
    request: Request, evaluated: EvaluatedAgents, panel: Panel, settings: EvaluationSettings
) -> Iterator[PartialEvaluation | None]:
    """Give the finished episodes beside `out`, kept until the caller has written the result; None without `out`."""
    if request.out is None:
        yield None
        return
    config = request.config
    depends_on = protocol(panel, settings) | {
        "policy": settings.policy,
        "weights": _fingerprints(evaluated),
        "seed": settings.seed,
        "max_context": config.policy.max_context,
        "step_timeout_s": config.rollout.step_timeout_s,
    }
    partial = PartialEvaluation(partial_path(request.out), depends_on)
    try:
        yield partial
    finally:
        partial.close()


def _fingerprints(evaluated: EvaluatedAgents) -> str | dict[str, str | None] | None:
    """Return that of the policy, or with several agents that of each policy by name."""
    found = {policy: _fingerprint(policy) for policy in sorted(evaluated.policies)}
    return found if evaluated.mapping else next(iter(found.values()))


def _fingerprint(policy: str) -> str | None:
    """Return a hash over names, sizes and times of a model's files, None for a policy without any.

    A run that trained on has other weights under the same name.
    """
    if policy in SCRIPTS or policy.startswith(ENDPOINT):
        return None
    from agentgym_rft.rollouts.policies import policy_dir

    files = sorted(path for path in policy_dir(policy).iterdir() if path.is_file())
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]
