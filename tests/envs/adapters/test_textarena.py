"""TextArena's games of two players: rules kept, seeds as tasks, generators left alone."""

import random

import pytest

from agentgym_rft.envs import make_env
from agentgym_rft.envs.adapters.textarena import TextArenaEnv
from agentgym_rft.envs.check.multi_agent import MULTI_RULES
from agentgym_rft.envs.check.run import RULES, check_env
from agentgym_rft.envs.check.subject import CheckSettings
from agentgym_rft.errors import ConfigError, EnvError

pytest.importorskip("textarena")
FEW = CheckSettings(num_episodes=2, num_instances=2)


def play(env, actions, task="seed-0"):
    """What the last of the actions gave."""
    env.reset(options={"task_id": task})
    for action in actions:
        outcome = env.step(action)
    return outcome


def results(info):
    return {agent: (standing["won"], standing["score"]) for agent, standing in info["outcomes"].items()}


@pytest.mark.parametrize("game", ["TicTacToe-v0", "KuhnPoker-v0", "SimpleNegotiation-v0"])
def test_a_game_keeps_the_contract(game):
    assert len(check_env(lambda: TextArenaEnv(game), settings=FEW)) == len(RULES) + len(MULTI_RULES)


def test_tic_tac_toe_is_won_with_the_messages_of_the_game():
    env = make_env("textarena")
    observation, info = env.reset(options={"task_id": "seed-0"})
    assert observation.startswith("[GAME] You are Player 0 in Tic Tac Toe.")
    assert info["agents"] == {"player_0": "player_0", "player_1": "player_1"}
    *_, terminated, _, info = play(env, ["[0]", "[3]", "[1]", "[4]", "[2]"])
    assert terminated
    assert info["rewards"] == {"player_0": 1.0, "player_1": -1.0}
    assert results(info) == {"player_0": (True, 1.0), "player_1": (False, 0.0)}
    assert info["outcomes"]["player_1"]["final"].endswith("[GAME] Player 0 has won!")


def test_an_invalid_move_may_be_tried_again_once_as_the_game_says():
    env = make_env("textarena")
    observation, _, terminated, _, info = play(env, ["[0]", "[0]"])
    assert "attempted an invalid move. Reason: cell 0 is already occupied." in observation
    assert (terminated, info["agent"], info["invalid_action"]) == (False, "player_1", True)
    *_, terminated, _, info = play(env, ["[0]", "[0]", "9" * 5000])  # which int() refuses to read
    assert terminated
    assert results(info) == {"player_0": (True, 1.0), "player_1": (False, 0.0)}


def test_the_seed_deals_the_cards_and_a_player_reads_only_its_own():
    env = make_env("textarena", {"game": "KuhnPoker-v0"})
    cards = set()
    for number in range(12):
        env.reset(options={"task_id": f"seed-{number}"})
        hands = [env.env.observe(agent).split("Your card is: '")[1][0] for agent in env.seats]
        assert hands[0] != hands[1]
        assert f"'{hands[1]}'" not in env.env.observe("player_0")
        cards.add(tuple(hands))
    assert len(cards) > 2


def test_the_global_generator_is_as_it_was():
    random.seed(5)
    expected = random.Random(5).random()
    play(make_env("textarena", {"game": "KuhnPoker-v0"}), ["[check]"])
    assert random.random() == expected


def test_unknown_games_and_those_for_one_are_refused():
    with pytest.raises(ConfigError, match=r"TextArena has no game 'TicTacTo-v0'. Did you mean 'TicTacToe-v0'\?"):
        make_env("textarena", {"game": "TicTacTo-v0"})
    with pytest.raises(EnvError, match="TextArena's FrozenLake-v0 is no game of two players"):
        make_env("textarena", {"game": "FrozenLake-v0"}).reset(seed=0)
