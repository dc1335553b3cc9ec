"""A tiny policy that plays Kuhn poker with a given probability of betting."""

from __future__ import annotations

from pathlib import Path

import torch

from agentgym_rft.agents.agent import ChatAgent, chat_format
from agentgym_rft.agents.card import load_card
from agentgym_rft.agents.policies.loading import save_model
from agentgym_rft.config.run import AgentSection
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.envs.making import make_env
from agentgym_rft.trainers.sft.model import build_model, train_tokenizer
from tests.kuhn_prompts import prompts_of_infosets

MAX_CONTEXT = 256
_WIDTHS = {"hidden_size": 32, "intermediate_size": 32, "num_layers": 1, "num_heads": 2, "head_dim": 16}
SHAPE = ModelSection(vocab_size=300, max_context=MAX_CONTEXT, **_WIDTHS)


def make_kuhn_policy(folder: Path, bets: float, steps: int = 150) -> Path:
    """A model fitted to bet with probability `bets` in every information set, in Hugging Face format."""
    torch.manual_seed(0)
    card = load_card(AgentSection())
    texts = [place.observation for place in prompts_of_infosets().values()]
    tokenizer = train_tokenizer([card.system, *texts, "bet", "pass"] * 3, SHAPE.vocab_size)
    chat = chat_format(tokenizer, card)
    model = build_model(SHAPE, len(tokenizer), seed=0)
    words = {"bet": bets, "pass": 1 - bets}
    rows = [(row, chat.reply(word), weight) for row in _rows(card, chat) for word, weight in words.items() if weight]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = sum((weight * _loss(model, row, reply) for row, reply, weight in rows), torch.zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    save_model(folder, model.eval(), tokenizer)
    return folder


def _rows(card, chat):
    """The conversation of every information set, as an agent has it in a rollout."""
    env = make_env("agentgym/KuhnPoker-v0")
    for place in prompts_of_infosets().values():
        agent = ChatAgent(card, chat)
        observation, info = env.reset(seed=0, options={"task_id": place.task_id})
        for action in place.actions:
            if info["agent"] == place.agent:
                agent.observe(observation, info)
                agent.prompt()
                agent.act(chat.reply(action))
            observation, _, _, _, info = env.step(action)
        agent.observe(observation, info)
        yield tuple(agent.prompt().row)


def _loss(model, row, reply):
    ids = torch.tensor([[*row, *reply]])
    logits = model(input_ids=ids).logits[0, len(row) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(reply), reduction="sum")
