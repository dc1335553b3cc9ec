"""The evaluated agents: which policy plays each of them, and what plays their episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agentgym_rft.agents.card import card_label, load_card
from agentgym_rft.agents.policies.seeds import full_policy_name
from agentgym_rft.config.run import Config
from agentgym_rft.envs.making import seats_of
from agentgym_rft.errors import ConfigError
from agentgym_rft.evaluation.panel import PanelWorkers
from agentgym_rft.evaluation.players import ENDPOINT, AgentWorkers, at_endpoint, named_endpoint, text_workers
from agentgym_rft.evaluation.policy_mapping import policy_for, policy_mapping
from agentgym_rft.evaluation.team import EvaluationPolicies
from agentgym_rft.rollouts.episode.players import MakePlayer, scripted
from agentgym_rft.rollouts.seats import SCRIPTS, Agents, notes_of, template_notes
from agentgym_rft.rollouts.workers.env_maker import env_maker


@dataclass(frozen=True, slots=True)
class EvaluatedAgents:
    """The policies that are evaluated, and their `label` in the result.

    `roles` and `mapping` have the role and the policy of each of several agents; both are empty for one agent.
    """

    label: str
    policies: frozenset[str]
    roles: Mapping[str, str]
    mapping: Mapping[str, str]

    @property
    def is_scripted(self) -> bool:
        """True if no model plays."""
        return self.policies <= set(SCRIPTS)


@dataclass(frozen=True, slots=True)
class OpenedAgents:
    """The evaluated agents, ready to play.

    `card` is the label of their agent cards, None where only scripts play. `exact` gives what the environment's theory
    says about them at a temperature, under the key `exact`; nothing where there is none. `notes` are on the chat
    templates of their policies, and `late_notes` gives what is only known when they have played.
    """

    workers: PanelWorkers
    card: str | None
    exact: Callable[[float], dict[str, Any]]
    notes: tuple[str, ...] = ()
    late_notes: Callable[[], tuple[str, ...]] = tuple


def find_evaluated(config: Config, named: str | None, given: Sequence[str]) -> EvaluatedAgents:
    """Return who plays.

    Args:
        config: with the policy that `named` means.
        named: the policy as the user wrote it; None where `given` has one for every agent.
        given: `AGENT=POLICY` or `ROLE=POLICY`, where there are several agents.
    Raises:
        ConfigError: an agent has two policies or none, or is not there.
    """
    roles = seats_of(config.env.id, config.env.options)
    rest = None if named is None else config.policy.path
    found = policy_mapping(roles, given, rest, config.team.seats)
    if not found:
        assert named is not None, "an environment of one agent has refused --seat"
        return EvaluatedAgents(named, frozenset({config.policy.path}), roles, found)
    shown = {agent: named if policy == rest else policy for agent, policy in found.items()}
    label = str(named) if set(shown.values()) == {named} else ", ".join(f"{a}={p}" for a, p in shown.items())
    full = {a: policy_for(full_policy_name(policy, config.env.id), roles[a]) for a, policy in found.items()}
    return EvaluatedAgents(label, frozenset(full.values()), roles, full)


def open_evaluated(config: Config, evaluated: EvaluatedAgents) -> OpenedAgents:
    """Return the agents with all that they need to play; the caller closes the workers.

    Raises:
        ConfigError, DataError, CheckpointError: a policy cannot be used.
    """
    if not evaluated.mapping:
        return _open_one(config)
    policies = EvaluationPolicies(config, evaluated.roles)
    agents = policies.agents(evaluated.mapping)
    exact = partial(policies.exact, agents)
    return OpenedAgents(policies.workers(agents), _card_labels(agents), exact, notes_of(agents))


def _open_one(config: Config) -> OpenedAgents:
    """Return the one agent of an environment."""
    name = config.policy.path
    if name in SCRIPTS:
        return OpenedAgents(_text_workers(config, scripted(name)), None, _no_theory)
    card = load_card(config.agent)  # what is wrong with it is said before the model is loaded
    if name.startswith(ENDPOINT):
        endpoint = named_endpoint(name)
        workers = _text_workers(config, at_endpoint(endpoint, card))
        return OpenedAgents(workers, card_label(card), _no_theory, late_notes=lambda: endpoint.notes)
    from agentgym_rft.rollouts.make import workers_of
    from agentgym_rft.rollouts.policies import load_policy_model

    model, tokenizer = load_policy_model(config.policy)
    local = workers_of(config, model, tokenizer)
    return OpenedAgents(local, card_label(card), _no_theory, template_notes(config, tokenizer))


def _card_labels(agents: Agents) -> str | None:
    return ", ".join(dict.fromkeys(card_label(spec.card) for spec in agents if not spec.is_scripted)) or None


def _text_workers(config: Config, make_player: MakePlayer) -> AgentWorkers:
    if config.rollout.workers == "ray":
        raise ConfigError(
            f"Workers on Ray sample from a model; the policy '{config.policy.path}' plays in this process. "
            "Give --workers local, or processes."
        )
    return text_workers(env_maker(config), make_player, max_concurrency=config.policy.max_concurrency)


def _no_theory(temperature: float) -> dict[str, Any]:
    """Return nothing: exact values are those of games, which have several agents."""
    return {}
