from __future__ import annotations

import numpy as np
import pytest
import torch

from agentgym_rft.agents.card import load_card
from agentgym_rft.config.run import AgentSection
from agentgym_rft.config.sft import SftConfig, SftSection
from agentgym_rft.core import StopReason
from agentgym_rft.envs.multi_agent import TeamTaskEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import ConfigError, EnvError
from agentgym_rft.trainers.sft.demonstrations import demonstrate, demonstrations, sft_agents
from agentgym_rft.trainers.sft.model import train_tokenizer
from agentgym_rft.trainers.sft.train import demonstrated_rows, start_policy, train_sft
from agentgym_rft.trainers.sft.word_substitution import Wordbook, WordSubstitution
from tests.light_switch import COLOURS, LightSwitch
from tests.team_switch import TeamSwitch

SECTION = SftSection(noise=0.0)
CARD = load_card(AgentSection())


class Orders(TeamTaskEnv):
    """The leader reads a colour and says it; the helper must do what it was told. A wrong word is lost by both."""

    snapshot_kind = "orders-0"

    def __init__(self, split="train", max_steps=9):
        super().__init__(["leader", "helper"], split, max_steps, {})
        self.said = []

    def task_ids(self, split):
        self.check_split(split)
        return [f"{split}-{colour}-{number}" for number in range(8) for colour in COLOURS]

    def task_content(self, task_id):
        return task_id.encode()

    def expert(self, agent, observation, rng, noise=0.0):
        return Repeating(rng, noise)

    def _begin(self, task_id):
        self.said, self.colour = [], task_id.split("-")[1]
        self.tell("leader", f"The colour is {self.colour}")
        return "leader"

    def _act(self, agent, action):
        self.said.append(action)
        if agent == "leader":
            self.tell("helper", f"You are told {action}")
        if action != self.colour:
            return None
        self.give(agent, 0.5)
        return "helper" if agent == "leader" else None

    def _facts(self, agent):
        own = self.said[:1] if agent == "leader" else self.said[1:]  # each wins with its own word
        return {"won": own == [self.colour], "score": 0.0, "state_key": str(self.said)}

    def _saved(self):
        return {"said": self.said}

    def _resume(self, saved):
        self.said = saved["said"]


class Repeating:
    """Says the last word that it reads, and at rate `noise` another one."""

    def __init__(self, rng, noise):
        self.rng, self.noise = rng, noise

    def act(self, observation):
        return "green" if self.rng.random() < self.noise else observation.split()[-1]


def config_of(**changes):
    sections = {
        "env": {"id": "tests.trainers.sft.test_demonstrations:Orders"},
        "model": {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2}
        | {"head_dim": 8, "max_context": 96},
        "team": {
            "seats": {
                "leader": {"overrides": {"system": "You lead."}},
                "helper": {"overrides": {"system": "You help."}},
            }
        },
        "sft": {
            "tokens": 120_000,
            "batch_tokens": 800,
            "learning_rate": 1e-2,
            "matrix_learning_rate": 5e-2,
            "noise": 0.0,
        },
    }
    return SftConfig.model_validate(sections | changes)


TOKENIZER = train_tokenizer(["red", "blue", "The colour is red", "You are told blue", "You lead. You help."] * 3, 300)


def text_of(trajectory):
    return TOKENIZER.decode([i for turn in trajectory.turns for i in (*turn.context_ids, *turn.action_ids)])


def stream(env, config=None, **section):
    agents = sft_agents(config or config_of(), env, CARD, TOKENIZER)
    return demonstrations(env, agents, split="train", seed=0, section=SECTION.model_copy(update=section))


def test_every_seat_gives_its_own_trajectory_under_its_own_card():
    env = TurnsEnv(Orders())
    agents = sft_agents(config_of(), env, CARD, TOKENIZER)
    leader, helper = demonstrate(env, agents, "train-blue-0", seed=3, noise=0.0)
    assert text_of(leader) == "<|system|>You lead.<|user|>The colour is blue<|assistant|>blue<|end|>"
    assert text_of(helper) == "<|system|>You help.<|user|>You are told blue<|assistant|>blue<|end|>"
    assert (leader.agent_id, leader.info["role"], leader.rewards) == ("leader", "leader", {"env": 0.5})
    assert leader.stop_reason is helper.stop_reason is StopReason.SUCCESS
    assert leader.episode_id == helper.episode_id
    assert [turn.state_key for turn in helper.turns] == ["['blue']"]


def test_each_seat_keeps_its_conversation_over_its_turns():
    env = TurnsEnv(TeamSwitch())
    agents = sft_agents(config_of(team={}), env, CARD, TOKENIZER)
    of_a, of_b = demonstrate(env, agents, "1", seed=0, noise=0.0)
    assert len(of_a.turns) == len(of_b.turns) == 2
    assert text_of(of_a).count("<|user|>") == 2
    assert text_of(of_a).count("Task 1, 2 turns left.") == 2
    assert of_a.rewards["env"] == 0.25 * sum(TOKENIZER.decode(turn.action_ids[:-1]) == "red" for turn in of_a.turns)


def test_only_the_seats_that_won_are_learnt_from():
    """At noise 0.5 the leader is right half of the time, and only then the helper is asked at all."""
    found = [next_ for next_, _ in zip(stream(TurnsEnv(Orders()), noise=0.5), range(60), strict=False)]
    assert all(t.won and t.turns for t in found)
    leaders = sum(t.agent_id == "leader" for t in found)
    assert leaders > 60 - leaders > 0
    assert not any("green" in text_of(t) for t in found)


def test_random_play_is_learnt_from_whether_it_won_or_not():
    env = TurnsEnv(TeamSwitch())
    found = [next_ for next_, _ in zip(stream(env, config_of(team={}), player="random"), range(40), strict=False)]
    assert sum(not t.won for t in found) > 20  # all four words are right in one of 16 episodes
    assert {t.agent_id for t in found} == {"a", "b"}
    said = [TOKENIZER.decode(turn.action_ids[:-1]) for t in found for turn in t.turns]
    assert 0.3 < said.count("red") / len(said) < 0.7


def test_random_play_picks_among_the_listed_actions_where_there_is_no_player():
    class Listing(LightSwitch):
        def _info(self):
            return {**super()._info(), "admissible_actions": ["red", "green"]}

    agents = sft_agents(config_of(), Listing(), CARD, TOKENIZER)
    section = SECTION.model_copy(update={"player": "random"})
    played = demonstrations(Listing(), agents, split="train", seed=0, section=section)
    said = {TOKENIZER.decode(turn.action_ids[:-1]) for _, t in zip(range(20), played, strict=False) for turn in t.turns}
    assert said == {"red", "green"}
    with pytest.raises(EnvError, match="lists no actions and has no random player"):
        demonstrate(LightSwitch(), agents, "1", seed=0, noise=0.0, player="random")


def test_seats_that_others_play_are_not_learnt_from():
    seats = {"helper": {"policy": "expert"}}
    found = [t for t, _ in zip(stream(TurnsEnv(Orders()), config_of(team={"seats": seats})), range(8), strict=False)]
    assert {t.agent_id for t in found} == {"leader"}
    with pytest.raises(ConfigError, match="The environment has no seat 'boss'"):
        stream(TurnsEnv(Orders()), config_of(team={"seats": {"boss": {}}}))


def test_a_disguise_is_the_same_for_all_seats_and_hides_the_words_from_them_alone():
    env = TurnsEnv(Orders())
    substitution = WordSubstitution(np.random.default_rng(0), 1.0, ("You", "lead", "help"), Wordbook())
    agents = sft_agents(config_of(), env, CARD, TOKENIZER)
    leader, helper = demonstrate(env, agents, "train-red-0", seed=0, noise=0.0, substitution=substitution)
    assert leader.won
    assert helper.won
    word = TOKENIZER.decode(leader.turns[0].action_ids[:-1])
    assert word == TOKENIZER.decode(helper.turns[0].action_ids[:-1]) != "red"
    assert f"{word}<|assistant|>{word}" in text_of(helper)


def test_the_stream_follows_from_the_seed():
    first, second = ([t for t, _ in zip(stream(TurnsEnv(Orders()), noise=0.3), range(9), strict=False)] for _ in "ab")
    assert first == second


def test_a_model_learns_both_roles():
    torch.set_num_threads(1)
    config = config_of()
    env, card = TurnsEnv(Orders()), load_card(config.agent)
    model, tokenizer = start_policy(config, env, card)
    losses = []
    train_sft(config, env, card, model, tokenizer, lambda row: losses.append(row["loss/action"]))
    assert losses[-1] < 0.1 < losses[0]
    rows = demonstrated_rows(config, env, card, tokenizer)
    texts = [tokenizer.decode(row.ids.tolist()) for row, _ in zip(rows, range(4), strict=False)]
    assert ["You lead." in text for text in texts] == [True, False] * 2
    assert ["You help." in text for text in texts] == [False, True] * 2
