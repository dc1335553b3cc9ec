"""The exact strategy of policies in a game whose information sets are known: no episode is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.agent import ChatAgent
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.envs.base import InformationSet, Strategy, TextEnv
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.seats import Agents, AgentSpec


@dataclass(frozen=True, slots=True)
class PolicyModel:
    """The network of a policy, and the tokenizer that it was trained with."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class Exact:
    """The numbers of a strategy; `uncounted` is the largest probability, in one information set, of other replies than
    those that were counted.
    """

    values: Mapping[str, float]
    strategy: Strategy
    uncounted: float

    def as_json(self) -> dict[str, Any]:
        """Return a plain mapping."""
        return {"values": dict(self.values), "uncounted": self.uncounted, "strategy": self.strategy}


def analyse(env: TextEnv, agents: Agents, models: Mapping[str, PolicyModel], temperature: float) -> Exact | None:
    """Return what the environment's theory says; None without a theory, or for a script without a strategy.

    A policy's probability of an action is that of the replies that the theory lists for it, each in its canonical
    tokens with an end-of-turn token after them, sampled at `temperature` (0: greedy). Earlier turns of its own are
    context in their canonical tokens, too. What the listed replies leave over is `Exact.uncounted`.

    Args:
        agents: of the environment, in the order of play.
        models: of all that are not scripts, by the name of the policy.
    Raises:
        ConfigError: a card has the policy say more than the action, so that many replies mean the same.
    """
    theory = env.theory()
    if theory is None:
        return None
    specs = {spec.agent: spec for spec in agents}
    scripts = {spec.player: theory.of_script(spec.player) for spec in agents if spec.is_scripted}
    if None in scripts.values():
        return None
    for spec in agents:
        _check_card(spec)
    strategy: dict[str, Mapping[str, float]] = {}
    for place in theory.information_sets():
        spec, agent = _conversation(env, place, specs)
        script = scripts.get(spec.player)
        strategy[place.name] = (
            script[place.name] if script is not None else _choice(place, spec, agent, models[spec.player], temperature)
        )
    uncounted = max(max(0.0, 1.0 - sum(choice.values())) for choice in strategy.values())
    return Exact(dict(theory.analyse(strategy)), strategy, uncounted)


def _check_card(spec: AgentSpec) -> None:
    action = spec.card.action
    if not spec.is_scripted and (action.grammar != "plain" or action.think):
        raise ConfigError(
            f"The exact strategy needs replies that are the action alone; the card '{spec.card.name}' asks for more."
        )


def _conversation(
    env: TextEnv, place: InformationSet, specs: Mapping[str, AgentSpec]
) -> tuple[AgentSpec, ChatAgent | None]:
    """Return who is to act in an information set, and its conversation up to there; None for a script."""
    observation, info = env.reset(seed=0, options={"task_id": place.task_id})
    agents = {name: ChatAgent(spec.card, spec.chat) for name, spec in specs.items() if not spec.is_scripted}
    for action in (*place.actions, None):
        agent = agents.get(info["agent"])
        spec = specs[info["agent"]]
        if agent is not None:
            agent.observe(observation, info)
        if action is None:
            break
        if agent is not None:
            agent.prompt()
            agent.act(spec.chat.reply(format_reply(action, "", spec.card.action)))
        observation, _, _, _, info = env.step(action)
    return spec, agent


def _choice(
    place: InformationSet, spec: AgentSpec, agent: ChatAgent | None, policy: PolicyModel, temperature: float
) -> dict[str, float]:
    """Return the probability of each action of an information set."""
    assert agent is not None, "a policy has a conversation"
    row = tuple(agent.prompt().row)
    return {
        action: sum(_reply_probability(row, spec, text, policy.model, temperature) for text in texts)
        for action, texts in place.choices.items()
    }


def _reply_probability(row: Sequence[int], spec: AgentSpec, text: str, model: Any, temperature: float) -> float:
    """Return the probability that the policy's reply to a row of tokens is a text, and then ends."""
    import torch

    ids = spec.chat.reply(text)[:-1]
    limit = spec.card.action.max_tokens
    if len(ids) > limit:
        return 0.0
    whole = torch.tensor([[*row, *ids]], device=next(model.parameters()).device)  # [1, L]
    with torch.no_grad():
        logits = model(input_ids=whole, use_cache=False).logits[0, len(row) - 1 :].double()  # [R + 1, V]
    if temperature == 0:
        probabilities = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    else:
        probabilities = torch.softmax(logits / temperature, dim=-1)
    at = torch.arange(len(ids), device=logits.device)
    said = probabilities[at, torch.tensor(ids, device=logits.device)].prod()
    ends = 1.0 if len(ids) == limit else float(probabilities[-1, list(spec.chat.stop_ids)].sum())
    return float(said) * ends
