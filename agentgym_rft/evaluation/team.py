"""The policies of an evaluation with several agents, and what plays their episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.config.run import Config
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import ConfigError
from agentgym_rft.evaluation.exact import PolicyModel, analyse
from agentgym_rft.evaluation.players import ENDPOINT, AgentWorkers
from agentgym_rft.evaluation.policy_mapping import policy_for
from agentgym_rft.rollouts.seats import SCRIPTS, Agents, AgentSpec, scripted_agent, seat_card, seat_section
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
        self.models: dict[str, PolicyModel] = {}
        self._policy = RoutedPolicy({}, ())
        self._pool = EnvPool(env_maker(config), config.policy.max_concurrency)

    def agents(self, mapping: Mapping[str, str]) -> Agents:
        """Return the agents, each played by the policy that `mapping` names.

        Raises:
            ConfigError, DataError, CheckpointError: one cannot be used, or not with several agents.
        """
        return tuple(self._agent_spec(agent, role, mapping[agent]) for agent, role in self._roles.items())

    def workers(self, agents: Agents) -> AgentWorkers:
        """Return what plays episodes of some agents; all share the environments and the policies."""
        return AgentWorkers(self._pool, self._policy, agents, self._config.policy.max_context, self.close)

    def exact(self, agents: Agents, temperature: float) -> dict[str, Any]:
        """Return what the environment's theory says about them, under the key `exact`; nothing where there is none."""
        env = make_env(self._config.env.id, self._config.env.options)
        try:
            found = analyse(env, agents, self.models, temperature)
        except ConfigError as error:
            return {"exact": {"left_out": str(error)}}
        finally:
            close_env(env)
        return {} if found is None else {"exact": found.as_json()}

    def close(self) -> None:
        """Close all idle environments and the policies."""
        self._pool.close()
        self._policy.close()

    def _agent_spec(self, agent: str, role: str, policy: str) -> AgentSpec:
        if policy in SCRIPTS:
            return scripted_agent(agent, role, policy)
        name = policy_for(policy, role)
        card = seat_card(self._config, seat_section(agent, role, self._config.team.seats))
        tokenizer = self._model(name).tokenizer
        from agentgym_rft.rollouts.policies import refused_as_data

        with refused_as_data(name):
            chat = chat_format(tokenizer, card)
        return AgentSpec(agent, role, card, chat, name, is_trained=False)

    def _model(self, name: str) -> PolicyModel:
        if name not in self.models:
            _check_place(self._config, name)
            from agentgym_rft.rollouts.policies import load_policy_model, policy_section, serve

            own = policy_section(self._config, name)
            loaded = PolicyModel(*load_policy_model(own))
            self._policy.add(name, serve(loaded.model, own))
            self.models[name] = loaded
        return self.models[name]


def _check_place(config: Config, name: str) -> None:
    if name.startswith(ENDPOINT):
        raise ConfigError(
            f"'{name}' cannot play here: an endpoint plays environments of one agent. Name a model, a run or a script."
        )
    if config.rollout.workers == "ray":
        raise ConfigError("Several agents are evaluated in this process: give --workers local, or processes.")
