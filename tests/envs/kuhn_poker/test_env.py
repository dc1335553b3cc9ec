"""Kuhn poker in text: rules, texts, rewards, players, prompts and snapshots."""

from itertools import product

import numpy as np
import pytest
from pettingzoo.test import seed_test

from agentgym_rft.envs.kuhn_poker.env import SEATS, KuhnPokerEnv, read_move
from agentgym_rft.envs.kuhn_poker.theory import ALL_INFOSETS, DEALS, chips, equilibrium, expected_value
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import ConfigError, DataError, EnvError
from tests.kuhn_prompts import prompts_of_infosets

ENDINGS = {"pp": ["pass", "pass"], "bp": ["bet", "pass"], "bb": ["bet", "bet"]}
ENDINGS |= {"pbp": ["pass", "bet", "pass"], "pbb": ["pass", "bet", "bet"]}


def start(task_id):
    env = KuhnPokerEnv()
    env.reset(seed=0, options={"task_id": task_id})
    return env


def play(task_id, actions):
    """Rewards of both and the environment after all turns of a game."""
    env = start(task_id)
    for action in actions:
        env.step(action)
    return dict(env.rewards), env


@pytest.mark.parametrize("cards", DEALS)
@pytest.mark.parametrize("moves", ENDINGS)
def test_every_game_pays_half_its_chips_and_sums_to_zero(cards, moves):
    rewards, env = play(f"deal-{''.join(cards)}", ENDINGS[moves])
    won = chips(cards, moves)
    assert rewards == {"player_1": won / 2, "player_2": -won / 2}
    for agent, sign in zip(SEATS, (1, -1), strict=True):
        info = env.infos[agent]
        assert (info["won"], info["score"]) == (sign * won > 0, (sign * won + 2) / 4)
        assert "infoset" not in info
        assert f"You {'win' if sign * won > 0 else 'lose'} {abs(won)} chip" in env.observe(agent)
    assert env.terminations == {"player_1": True, "player_2": True}


def test_a_game_as_it_is_read():
    env = start("deal-KJ")
    assert env.observe("player_1") == "Your card is king. You act first. Say bet or pass."
    assert env.observe("player_2") == "Your card is jack. You act second."
    assert env.infos["player_1"]["infoset"] == "K"
    assert "infoset" not in env.infos["player_2"]
    env.step("check")
    assert env.observe("player_2").splitlines()[1] == "The other player passes. Say bet or pass."
    env.step("bet")
    assert env.observe("player_1") == "Your card is king. The other player bets. Say bet or pass."
    assert env.infos["player_1"]["infoset"] == "Kpb"
    env.step("call")
    assert env.observe("player_2") == "You have the jack, the other player has the king. You lose 2 chips."
    _, folded = play("deal-KJ", ["bet", "fold"])
    assert folded.observe("player_1") == "The other player passes. You win 1 chip."
    assert "king" not in folded.observe("player_2")


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("bet", "b", "b"),
        (" Pass. ", "p", "p"),
        ("BET!", "b", "b"),
        ("check", "p", None),
        ("call", None, "b"),
        ("fold", None, "p"),
        ("I bet", None, None),
        ("bet bet", None, None),
        ("", None, None),
    ],
)
def test_what_counts_as_a_move(text, before, after):
    assert (read_move(text, is_facing_bet=False), read_move(text, is_facing_bet=True)) == (before, after)


@pytest.mark.parametrize("text", ["", "raise", "x" * 1_000_000, "bet " * 250_000, "\ud800", "²"])
def test_any_other_text_is_a_pass_and_invalid(text):
    env = start("deal-QJ")
    env.step(text)
    assert env.infos["player_1"]["invalid_action"] is True
    assert env.infos["player_2"]["infoset"] == "Jp"
    assert env.observe("player_2").endswith("The other player passes. Say bet or pass.")
    env.step("pass")
    assert env.rewards == {"player_1": 0.5, "player_2": -0.5}


def test_the_six_deals_are_the_tasks_and_are_drawn_by_the_seed():
    env = KuhnPokerEnv()
    assert sorted(env.task_ids("train")) == sorted(f"deal-{a}{b}" for a, b in product("JQK", "JQK") if a != b)
    drawn = []
    for seed in range(60):
        env.reset(seed=seed)
        drawn.append(env.infos["player_1"]["task_id"])
    assert set(drawn) == set(env.task_ids("train"))
    with pytest.raises(DataError, match="deal-KQ"):
        env.reset(options={"task_id": "deal-KK"})
    with pytest.raises(DataError, match="split"):
        KuhnPokerEnv(split="test")
    with pytest.raises(ConfigError, match="ansi"):
        KuhnPokerEnv(render_mode="human")


def test_the_prompts_of_information_sets_do_not_depend_on_the_other_card():
    prompts = prompts_of_infosets()
    assert list(prompts) == list(ALL_INFOSETS)
    words = {"p": "pass", "b": "bet"}
    for name, prompt in prompts.items():
        assert prompt.actions == tuple(words[move] for move in name[1:])
        seat = SEATS.index(prompt.agent)
        for deal in (f"deal-{a}{b}" for a, b in DEALS if (a, b)[seat] == name[0]):
            env, steps = start(deal), []
            for action in prompt.actions:
                if env.agent_selection == prompt.agent:
                    steps.append((env.observe(prompt.agent), action))
                env.step(action)
            assert env.infos[prompt.agent]["infoset"] == name
            assert (tuple(steps), env.observe(prompt.agent)) == (prompt.steps, prompt.observation)
    last = [(prompt.agent, prompt.observation) for prompt in prompts.values()]
    assert len(set(last)) == 12


def mean_chips(make_players, num_games):
    """Mean chips of seat 1 over games of random deals, and the standard error."""
    env, rng, won = TurnsEnv(KuhnPokerEnv()), np.random.default_rng(0), []
    for seed in range(num_games):
        observation, info = env.reset(seed=seed)
        players = make_players(env.env, rng)
        is_over = False
        while not is_over:
            observation, _, is_over, _, info = env.step(players[info["agent"]].act(observation))
        won.append(2 * info["rewards"]["player_1"])
    return np.mean(won), np.std(won) / np.sqrt(num_games)


def test_experts_win_what_theory_says():
    def experts(env, rng):
        return {agent: env.expert(agent, "", rng) for agent in SEATS}

    def expert_against_random(env, rng):
        return {"player_1": env.expert("player_1", "", rng), "player_2": env.random_player("player_2", rng)}

    uniform = dict.fromkeys(ALL_INFOSETS, 0.5)
    for players, expected in (
        (experts, expected_value(equilibrium(), equilibrium())),
        (expert_against_random, expected_value(equilibrium(), uniform)),
    ):
        mean, error = mean_chips(players, 3000)
        assert abs(mean - float(expected)) < 4 * error
        assert 0 < error < 0.05


def test_oracles_bet_the_higher_card_and_pass_the_lower():
    env = TurnsEnv(KuhnPokerEnv())
    for first, second in DEALS:
        observation, info = env.reset(options={"task_id": f"deal-{first}{second}"})
        oracle, is_over = env.oracle(), False
        while not is_over:
            observation, _, is_over, _, info = env.step(oracle.act(observation))
        assert info["rewards"]["player_1"] == chips((first, second), "pp") / 2
    with pytest.raises(EnvError, match="card"):
        env.env.expert("player_1", "", np.random.default_rng(0)).act("hello")


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_snapshot_continues_bit_by_bit(cut):
    actions = ["pass", "bet", "call"]
    env, other = start("deal-QK"), start("deal-JQ")
    for action in actions[:cut]:
        env.step(action)
    other.restore(env.snapshot())
    for action in [*actions[cut:], None]:
        assert (other.agents, other.rewards, other.infos) == (env.agents, env.rewards, env.infos)
        assert [other.observe(agent) for agent in SEATS] == [env.observe(agent) for agent in SEATS]
        if action is not None:
            env.step(action)
            other.step(action)
    with pytest.raises(EnvError, match="damaged"):
        other.restore(env.snapshot().replace(b'"moves":"pbb"', b'"moves":"ppp"'))


def test_equal_seeds_give_equal_episodes_as_pettingzoo_asks():
    seed_test(KuhnPokerEnv, num_cycles=30)


def test_a_no_op_passes_and_roles_are_the_seats():
    env = start("deal-JQ")
    assert [(env.role(agent), env.noop(agent)) for agent in SEATS] == [("player_1", "pass"), ("player_2", "pass")]
