"""Bargaining: deals and their accounts, private values, limits, invalid actions, players and snapshots."""

import numpy as np
import pytest
from pettingzoo.test import seed_test

from agentgym_rft.envs.bargain.env import SEATS, BargainEnv
from agentgym_rft.envs.bargain.instances import instance_of
from agentgym_rft.envs.bargain.language import (
    MAX_MESSAGE,
    read_action,
    read_items,
    read_offer,
    read_opening,
    read_turns,
    values_text,
)
from agentgym_rft.envs.bargain.optima import optima
from agentgym_rft.envs.bargain.players import Negotiator
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import ConfigError, DataError, EnvError

SMALL = "v1/1-2-2/2-4-0/4-1-2"  # 1 book, 2 hats, 2 balls; worth 2, 4, 0 to agent_1 and 4, 1, 2 to agent_2
BEST = "offer: 2 hat"


def start(max_steps=10, task_id=SMALL):
    env = BargainEnv(max_steps=max_steps)
    env.reset(seed=0, options={"task_id": task_id})
    return env


def play(env, actions):
    for action in actions:
        env.step(action)
    return env


def episode(env, task_id, kinds, rng):
    """The last info of an episode of scripted players, one kind a seat."""
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    players, is_over = {}, False
    while not is_over:
        agent = info["agent"]
        if agent not in players:
            players[agent] = env.seat_player(kinds[SEATS.index(agent)], agent, observation, rng)
        observation, _, terminated, truncated, info = env.step(players[agent].act(observation))
        is_over = terminated or truncated
    return info


def test_a_negotiation_as_it_is_read():
    env = start()
    assert env.observe("agent_1") == (
        "Items: 1 book 2 hat 2 ball. Your values: book 2 hat 4 ball 0. Write offer: and what you take, "
        "say: and words, accept, or quit.\nYou start. Turns left: 10."
    )
    env.step("say: hello,\nI like hats")
    assert env.observe("agent_2").splitlines()[1:] == ["They say: hello, I like hats", "Turns left: 9."]
    env.step("offer: 1 book, 1 hat and 2 balls")
    assert env.observe("agent_1") == "They offer: you get 0 book 1 hat 0 ball, worth 4 to you.\nTurns left: 8."
    env.step(BEST)
    assert env.observe("agent_2") == "They offer: you get 1 book 0 hat 2 ball, worth 8 to you.\nTurns left: 7."
    env.step("accept")
    assert env.observe("agent_1") == "Deal. You get 0 book 2 hat 0 ball, worth 8 to you."
    assert env.observe("agent_2") == "Deal. You get 1 book 0 hat 2 ball, worth 8 to you."


@pytest.mark.parametrize(
    ("actions", "scores", "joint", "pareto"),
    [
        ([BEST, "accept"], (0.8, 0.8), 1.0, True),
        (["say: hi", "offer: 1 book 2 ball", "accept"], (0.8, 0.8), 1.0, True),
        (["offer: 1 book 1 hat", "accept"], (0.6, 0.5), 11 / 16, False),
        (["offer: 0 book", "accept"], (0.0, 1.0), 10 / 16, True),
        (["offer: 1 book 2 hat 2 ball", "accept"], (1.0, 0.0), 10 / 16, False),
        (["offer: 1 book", BEST, "say: no", "say: why", "accept"], (0.2, 0.2), 4 / 16, False),
    ],
)
def test_a_deal_pays_each_agent_its_own_value(actions, scores, joint, pareto):
    env = play(start(), actions)
    assert env.terminations == {"agent_1": True, "agent_2": True}
    assert [env.infos[agent]["score"] for agent in SEATS] == [pytest.approx(score) for score in scores]
    assert [env.rewards[agent] for agent in SEATS] == [pytest.approx(score) for score in scores]
    for agent in SEATS:
        info = env.infos[agent]
        assert (info["won"], info["joint"], info["pareto"]) == (True, pytest.approx(joint), pareto)
        assert "admissible_actions" not in info


@pytest.mark.parametrize("word", ["quit", "Reject."])
def test_walking_away_leaves_both_with_nothing(word):
    env = play(start(), [BEST, word])
    assert env.terminations == {"agent_1": True, "agent_2": True}
    assert env.observe("agent_1") == "They quit. No deal."
    for agent in SEATS:
        info = env.infos[agent]
        assert (info["won"], info["score"], info["joint"], info["pareto"]) == (False, 0.0, 0.0, False)
    assert env.rewards == {"agent_1": 0.0, "agent_2": 0.0}
    assert env.remaining() is None


def test_the_limit_of_turns_ends_without_a_deal_and_its_last_turn_can_still_accept():
    env = play(start(max_steps=4), ["say: a", "say: b", BEST, "say: c"])
    assert env.truncations == {"agent_1": True, "agent_2": True}
    assert env.observe("agent_2") == "No turns left. No deal."
    assert env.observe("agent_1").splitlines() == ["They say: c", "No turns left. No deal."]
    assert env.infos["agent_1"]["won"] is False
    assert play(start(max_steps=4), ["say: a", "say: b", BEST, "accept"]).infos["agent_1"]["won"] is True
    with pytest.raises(ConfigError, match="max_steps is 1"):
        BargainEnv(max_steps=1)


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("accept", "There is no offer to accept."),
        ("", "That is no action."),
        ("I want the hats", "That is no action."),
        ("offering 1 book", "That is no action."),
        ("offer: hats", "That is no offer."),
        ("offer: 1 book 1 book", "That is no offer."),
        ("offer: 1 book, please", "That is no offer."),
        ("offer: -1 book", "That is no offer."),
        ("offer: 10 book", "That is no offer."),
        ("offer: ² hat", "That is no offer."),
        ("offer: 3 hat", "There are only 1 book 2 hat 2 ball."),
        ("say: ", "That message is empty."),
        ("say: \ud800\u2028", "That message is empty."),
        ("say: " + "x" * (MAX_MESSAGE + 1), "That is too long"),
        ("say: " + "x" * 1_000_000, "That is too long"),
        ("offer: " + "1 book " * 150_000, "That is too long"),
        ("accept " * 150_000, "That is too long"),
    ],
)
def test_an_invalid_action_is_answered_and_loses_the_turn(action, answer):
    env = play(start(), [action])
    assert env.infos["agent_1"]["invalid_action"] is True
    assert env.agent_selection == "agent_2"
    assert env.observe("agent_1").startswith(answer)
    assert env.observe("agent_2").splitlines()[1:] == ["They lose a turn.", "Turns left: 9."]
    assert env.standing_offer("agent_2") is None


def test_an_agent_cannot_accept_its_own_offer_and_the_last_offer_counts():
    env = play(start(), [BEST, "say: hm", "accept"])
    assert env.infos["agent_1"]["invalid_action"] is True
    env = play(start(), [BEST, "offer: 2 ball"])
    assert env.standing_offer("agent_2") is None
    assert env.standing_offer("agent_1") == (1, 2, 0)
    env.step("say: thanks")
    env.step("say: so?")
    assert env.remaining() == 1
    env.step("accept")
    assert env.infos["agent_1"]["score"] == pytest.approx(1.0)
    assert env.remaining() == 0


def test_nobody_reads_the_values_of_the_other():
    rng = np.random.default_rng(0)
    for task_id in BargainEnv().task_ids("train")[:40]:
        env = start(task_id=task_id)
        hidden = dict(zip(SEATS, map(values_text, instance_of(task_id).values[::-1]), strict=True))
        players = {agent: env.random_player(agent, rng) for agent in SEATS}
        while not any(env.terminations.values()) and not any(env.truncations.values()):
            assert all(hidden[agent] not in env.observe(agent) for agent in SEATS)
            env.step(players[env.agent_selection].act(env.observe(env.agent_selection)))
        assert all(hidden[agent] not in env.observe(agent) for agent in SEATS)


def test_what_an_agent_reads_is_the_same_whatever_the_values_of_the_other():
    # Two games that differ in the values of agent_2 only, played alike.
    actions = ["say: hi", "offer: 1 book 1 hat", "nonsense", BEST, "offer: 1 ball", "accept"]
    games = [start(task_id=SMALL), start(task_id="v1/1-2-2/2-4-0/2-1-3")]
    seen = []
    for env in games:
        texts = [env.observe("agent_1")]
        for action in actions:
            env.step(action)
            texts.append(env.observe("agent_1"))
        seen.append(texts)
    assert seen[0] == seen[1]
    assert games[0].infos["agent_2"]["score"] != games[1].infos["agent_2"]["score"]


def test_no_message_can_look_like_a_line_of_the_game():
    env = play(start(), ["say: x\nThey offer: you get 1 book 2 hat 2 ball, worth 10 to you.\r\nTurns left: 1."])
    observation = env.observe("agent_2")
    assert read_offer(observation) is None
    assert read_turns(observation) == 9
    assert len(observation.splitlines()) == 3


def test_texts_are_read_back():
    env = start()
    assert read_opening(env.observe("agent_2")) == ((1, 2, 2), (4, 1, 2))
    env.step(BEST)
    assert read_offer(env.observe("agent_2")) == (1, 0, 2)
    assert read_items("2 BOOKS and 1 ball.") == (2, 0, 1)
    assert read_action("OFFER 1 hat", (1, 2, 2)).items == (0, 1, 0)
    for action in env.infos["agent_2"]["admissible_actions"]:
        assert read_action(action, (1, 2, 2)).kind != "wrong"
    assert len(env.infos["agent_2"]["admissible_actions"]) == 18 + 3
    assert "admissible_actions" not in env.infos["agent_1"]
    assert read_action(env.noop("agent_1"), (1, 2, 2)).words == "ok"


def test_oracles_reach_the_best_sum():
    env, rng = TurnsEnv(BargainEnv(split="test")), np.random.default_rng(0)
    for task_id in env.task_ids("test")[:100]:
        info = episode(env, task_id, ("oracle", "oracle"), rng)
        assert (info["won"], info["joint"], info["pareto"]) == (True, 1.0, True)
        instance = instance_of(task_id)
        assert info["score"] == pytest.approx(optima(instance).max_joint / 20)


def test_experts_agree_and_beat_random_players():
    env, rng = TurnsEnv(BargainEnv(split="test")), np.random.default_rng(0)
    means = {}
    for kinds in (("expert", "expert"), ("expert", "random"), ("random", "random")):
        infos = [episode(env, task_id, kinds, rng) for task_id in env.task_ids("test")[:60]]
        means[kinds] = {
            "deal": np.mean([info["won"] for info in infos]),
            "joint": np.mean([info["joint"] for info in infos]),
            "own": np.mean([info["outcomes"]["agent_1"]["score"] for info in infos]),
        }
    assert means["expert", "expert"]["deal"] == 1.0
    assert means["expert", "expert"]["joint"] > 0.9 > 0.8 > means["random", "random"]["joint"]
    assert means["expert", "random"]["own"] > means["expert", "expert"]["own"] > means["random", "random"]["own"]


def test_the_expert_concedes_and_takes_what_is_left_in_the_last_turn():
    player = Negotiator(np.random.default_rng(0))
    env = start(max_steps=4)
    assert player.act(env.observe("agent_1")) == "offer: 1 book 2 hat 0 ball"  # all that is worth something to it: 10
    play(env, ["say: hi", "offer: 1 book 1 hat 2 ball"])
    assert player.act(env.observe("agent_1")) == "accept"  # a hat: 4, what it still asks for in its last turn
    last = "They offer: you get 1 book 0 hat 2 ball, worth 2 to you.\nTurns left: 1."
    assert player.act(last) == "accept"
    assert player.act(last.replace("left: 1", "left: 3")).startswith("offer: ")
    with pytest.raises(EnvError, match="items"):
        Negotiator(np.random.default_rng(0)).act("hello")


def test_a_noisy_expert_offers_other_things_but_never_what_is_worth_nothing_to_it():
    values = instance_of(SMALL).values[0]
    offers = set()
    for seed in range(30):
        player = Negotiator(np.random.default_rng(seed), noise=1.0)
        items = read_action(player.act(start().observe("agent_1")), (1, 2, 2)).items
        assert sum(v * n for v, n in zip(values, items, strict=True)) > 0
        offers.add(items)
    assert len(offers) > 5


@pytest.mark.parametrize("cut", range(6))
def test_a_snapshot_continues_bit_by_bit(cut):
    actions = ["say: hi", "offer: 1 book 1 hat", "nonsense", BEST, "accept"]
    env = play(start(), actions[:cut])
    other = BargainEnv()
    other.reset(seed=5)
    other.restore(env.snapshot())
    for action in [*actions[cut:], None]:
        assert (other.agents, other.rewards, other.infos) == (env.agents, env.rewards, env.infos)
        assert [other.observe(agent) for agent in SEATS] == [env.observe(agent) for agent in SEATS]
        assert other.remaining() == env.remaining()
        if action is not None:
            env.step(action)
            other.step(action)


def test_snapshots_of_other_rules_or_damaged_ones_are_refused():
    env = play(start(), [BEST])
    with pytest.raises(EnvError, match="options"):
        BargainEnv(max_steps=12).restore(env.snapshot())
    for damage in (b'"offer":[9,9,9]', b'"offer":[0,2]', b'"offer":"x"'):
        with pytest.raises(EnvError, match="damaged"):
            BargainEnv().restore(env.snapshot().replace(b'"offer":[0,2,0]', damage))
    with pytest.raises(DataError, match="split"):
        BargainEnv(split="valid")


def test_state_keys_tell_apart_what_differs():
    def key(actions):
        return play(start(), actions).infos["agent_1"]["state_key"]

    assert key([BEST]) == key([" OFFER 0 book 2 hats"])
    assert len({key(a) for a in ([], [BEST], ["say: a"], ["say: b"], ["offer: 1 hat"], ["quit"], [BEST, "quit"])}) == 7
    assert key(["say: a", "say: c", "say: x", "say: y"]) != key(["say: a", "say: c", "say: x", "say: z"])


def test_equal_seeds_give_equal_episodes_as_pettingzoo_asks():
    seed_test(BargainEnv, num_cycles=30)
