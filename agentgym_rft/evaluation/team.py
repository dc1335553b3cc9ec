"""The policies of an evaluation with several agents, and who of them plays which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.config.run import Config
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import ConfigError
from agentgym_rft.evaluation.exact import Member, analyse
from agentgym_rft.evaluation.players import ENDPOINT, AgentWorkers
from agentgym_rft.evaluation.seat_policies import policy_for
from agentgym_rft.rollouts.seats import SCRIPTS, Agents, AgentSpec, scripted_agent, seat_section
from agentgym_rft.rollouts.workers.env_maker import env_maker
from agentgym_rft.rollouts.workers.env_pool import EnvPool


class EvaluationPolicies:
    """Policies by name, each loaded once, for the first agent that it plays. Scripts need no loading, and no torch.

    Args:
        config: the environment with its cards, and how policies are served.
        roles: agents' names with their roles.
    """

    def __init__(self, config: Config, roles: Mapping[str, str]) -> None:
        self._config, self._roles = config, roles
        self.members: dict[str, Member] = {}
        self._policy = RoutedPolicy({}, ())
        self._pool = EnvPool(env_maker(config), config.policy.max_concurrency)

    def agents(self, players: Mapping[str, str]) -> Agents:
        """The seats, with the policy of each agent by name.

        Raises:
            ConfigError, DataError, CheckpointError: one cannot be used, or not with several agents.
        """
        return tuple(self._seat(agent, role, players[agent]) for agent, role in self._roles.items())

    def workers(self, agents: Agents) -> AgentWorkers:
        """Return what plays episodes of some agents; all share the environments and the policies."""
        return AgentWorkers(self._pool, self._policy, agents, self._config.policy.max_context, self.close)

    def exact(self, agents: Agents, temperature: float) -> dict[str, Any]:
        """What the environment's theory says about them, under the key `exact`; nothing where there is none."""
        env = make_env(self._config.env.id, self._config.env.options)
        try:
            found = analyse(env, agents, self.members, temperature)
        except ConfigError as error:
            return {"exact": {"left_out": str(error)}}
        finally:
            env.close()
        return {} if found is None else {"exact": found.as_json()}

    def close(self) -> None:
        """Close all idle environments and the policies."""
        self._pool.close()
        self._policy.close()

    def _seat(self, agent: str, role: str, player: str) -> AgentSpec:
        if player in SCRIPTS:
            return scripted_agent(agent, role, player)
        from agentgym_rft.agents.agent import chat_format

        name, card = policy_for(player, role), self.card(agent, role)
        chat = chat_format(self._member(name).tokenizer, card)
        return AgentSpec(agent, role, card, chat, name, is_trained=False)

    def _member(self, name: str) -> Member:
        if name not in self.members:
            _check_place(self._config, name)
            from agentgym_rft.rollouts.policies import load_policy_model, policy_section, serve

            own = policy_section(self._config, name)
            member = Member(*load_policy_model(own))
            self._policy.add(name, serve(member.model, own))
            self.members[name] = member
        return self.members[name]

    def card(self, agent: str, role: str) -> AgentCard:
        """The card that the configuration gives to a seat."""
        from agentgym_rft.rollouts.seats import seat_card

        return seat_card(self._config, seat_section(agent, role, self._config.team.seats))


def _check_place(config: Config, name: str) -> None:
    if name.startswith(ENDPOINT):
        raise ConfigError(
            f"'{name}' cannot play here: an endpoint plays environments of one agent. Name a model, a run or a script."
        )
    if config.rollout.workers == "ray":
        raise ConfigError("Several agents are evaluated in this process: give --workers local, or processes.")
