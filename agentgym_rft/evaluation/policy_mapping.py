"""The policy mapping of an evaluation: which policy plays which agent, from what the command line says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agentgym_rft.agents.policies.names import model_name
from agentgym_rft.config.team import SeatSection
from agentgym_rft.errors import ConfigError, did_you_mean
from agentgym_rft.rollouts.seats import TRAINED, seat_section


def policy_mapping(
    roles: Mapping[str, str], given: Sequence[str], rest: str | None, sections: Mapping[str, SeatSection]
) -> dict[str, str]:
    """Return the policy of each agent.

    Args:
        roles: agents' names with their roles; none where the environment has one agent.
        given: `AGENT=POLICY` or `ROLE=POLICY`.
        rest: who plays the others, unless `sections` has another policy than the trained one there.
        sections: the configuration's, by agent or role.
    Raises:
        ConfigError: there is no such agent or role, or an agent has two policies or none.
    """
    named: dict[str, str] = {}
    for text in given:
        name, mark, policy = text.partition("=")
        if not (mark and name and policy):
            raise ConfigError(f"--seat is '{text}'; expected AGENT=POLICY or ROLE=POLICY.")
        _check_name(name, roles)
        for agent in [agent for agent, role in roles.items() if name in (agent, role)]:
            if agent in named:
                both = f"'{named[agent]}' and '{policy}'"
                raise ConfigError(f"Two policies for one seat: --seat gives '{agent}' both {both}. Keep one of them.")
            named[agent] = policy
    return {agent: named.get(agent) or _rest(agent, role, rest, sections) for agent, role in roles.items()}


def policy_for(name: str, role: str) -> str:
    """Return the policy that a name means for a role: of a run that trained one for each role, that of this role."""
    path = Path(model_name(name))
    if not (path / "config.yaml").is_file() or (path / "model").is_dir():
        return name
    from agentgym_rft.store.checkpoint import load_checkpoint
    from agentgym_rft.store.run_policies import MARK, POLICIES

    several = load_checkpoint(path / "checkpoints").state.get(POLICIES, ())
    return f"{name}{MARK}{role}" if several else name


def _check_name(name: str, roles: Mapping[str, str]) -> None:
    known = list(dict.fromkeys([*roles, *roles.values()]))
    if not roles:
        raise ConfigError("This environment has one agent: name its policy with --policy, and leave out --seat.")
    if name not in known:
        raise ConfigError(f"There is no seat '{name}'.{did_you_mean(name, dict.fromkeys(known))}")


def _rest(agent: str, role: str, rest: str | None, sections: Mapping[str, SeatSection]) -> str:
    section = seat_section(agent, role, sections)
    policy = rest if section.policy == TRAINED else section.policy
    if policy is None:
        raise ConfigError(f"The seat '{agent}' has no policy: give --seat {agent}=POLICY, or --policy for the rest.")
    return policy
