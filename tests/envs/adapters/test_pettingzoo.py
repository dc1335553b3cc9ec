"""PettingZoo environments in words: the worked example, the rule about illegal actions, raw and parallel ones."""

import functools
import importlib.util
from pathlib import Path

import pytest
from gymnasium import spaces
from pettingzoo.utils.env import AECEnv, ParallelEnv

import agentgym_rft
from agentgym_rft.envs.adapters.gym import as_text_env
from agentgym_rft.envs.adapters.pettingzoo import PettingZooText, Renderer
from agentgym_rft.envs.check.multi_agent import MULTI_RULES
from agentgym_rft.envs.check.run import RULES, check_env
from agentgym_rft.envs.check.subject import CheckSettings
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import ConfigError
from tests.counting_team import CountingTeam

EXAMPLE = Path(agentgym_rft.__file__).parent.parent / "envs" / "tictactoe" / "tictactoe_text.py"
FEW = CheckSettings(num_episodes=2, num_instances=2)


@pytest.fixture
def example():
    pytest.importorskip("pygame")
    spec = importlib.util.spec_from_file_location("tictactoe_text", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def play(env, actions):
    """What the last of the actions gave."""
    env.reset(options={"task_id": "seed-0"})
    for action in actions:
        outcome = env.step(action)
    return outcome


def results(info):
    return {agent: (standing["won"], standing["score"]) for agent, standing in info["outcomes"].items()}


def test_the_worked_example_keeps_the_contract(example):
    assert len(check_env(example.make, settings=FEW)) == len(RULES) + len(MULTI_RULES)


def test_tic_tac_toe_is_won_lost_and_drawn(example):
    env = TurnsEnv(example.make())
    *_, terminated, truncated, info = play(env, "03142")
    assert (terminated, truncated) == (True, False)
    assert info["rewards"] == {"player_1": 1.0, "player_2": -1.0}
    assert results(info) == {"player_1": (True, 1.0), "player_2": (False, 0.0)}
    assert info["outcomes"]["player_2"]["final"].endswith("X O .\nX O .\nX . .")
    assert results(play(env, "031485")[-1]) == {"player_1": (False, 0.0), "player_2": (True, 1.0)}
    assert results(play(env, "041263578")[-1]) == {"player_1": (False, 0.5), "player_2": (False, 0.5)}


def test_an_illegal_action_may_be_tried_again_once_and_the_next_one_forfeits(example):
    env = TurnsEnv(example.make())
    observation, _, terminated, _, info = play(env, ["4", "4"])
    assert observation == "'4' is not legal. Legal: 0, 1, 2, 3, 5, 6, 7, 8."
    assert (terminated, info["agent"], info["invalid_action"]) == (False, "player_2", True)
    _, _, terminated, _, info = play(env, ["4", "4", "0", "hm", "nine"])
    assert terminated
    assert info["rewards"] == {"player_1": -1.0, "player_2": 1.0}
    assert results(info) == {"player_1": (False, 0.0), "player_2": (True, 1.0)}
    assert info["outcomes"]["player_2"]["final"] == "player_1 forfeits: 'nine' is not legal."


class Echo(AECEnv):
    """Two agents that write texts; the first who writes `end` is out, with a reward of 1."""

    metadata = {"name": "echo_v0", "render_modes": []}  # noqa: RUF012

    def __init__(self, space=None):
        super().__init__()
        self.possible_agents = ["a_0", "b_0"]
        self.space = space or spaces.Text(100)

    def observation_space(self, agent):
        return self.space

    action_space = observation_space

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.said = f"seed {seed}"
        self.rewards, self._cumulative_rewards = dict.fromkeys(self.agents, 0), dict.fromkeys(self.agents, 0)
        self.terminations, self.truncations = dict.fromkeys(self.agents, False), dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = "a_0"

    def observe(self, agent):
        return self.said

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self.said = f"{agent}: {action}"
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        if action == "end":
            self.terminations[agent] = True
            self.rewards[agent] = 1
        self._accumulate_rewards()
        others = [other for other in self.agents if other != agent]
        self.agent_selection = others[0] if others else agent
        self._deads_step_first()

    def close(self):
        pass


def test_an_environment_of_texts_is_wrapped_as_it_is_and_its_agents_leave_one_by_one():
    env = as_text_env(Echo(), "echo", {})
    assert isinstance(env, TurnsEnv)
    assert env.reset(options={"task_id": "seed-7"})[0] == "seed 7"
    assert env.step("hello")[0] == "a_0: hello"
    _, reward, terminated, _, info = env.step("end")
    assert (reward, terminated, info["agent"]) == (0.5, False, "a_0")
    assert info["outcomes"]["b_0"]["is_over"]
    kept = env.snapshot()
    outcomes = []
    for _ in range(2):
        env.step("alone")
        outcomes.append(env.step("end"))
        env.restore(kept)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][2]
    assert results(outcomes[0][-1]) == {"a_0": (True, 1.0), "b_0": (True, 1.0)}


def test_an_environment_without_text_is_refused_with_what_to_do():
    with pytest.raises(ConfigError, match=r"has observation_space Discrete\(3\) for 'a_0', expected text: put it into"):
        as_text_env(Echo(spaces.Discrete(3)), "echo", {})
    with pytest.raises(ConfigError, match="A int is no PettingZoo environment"):
        PettingZooText(3, Guess())


class Matching(ParallelEnv):
    """Two agents choose at once; both are paid if they choose alike."""

    metadata = {"name": "matching_v0", "render_modes": []}  # noqa: RUF012

    def __init__(self):
        self.possible_agents = ["a_0", "b_0"]
        self.render_mode = None

    @functools.cache  # noqa: B019
    def observation_space(self, agent):
        return spaces.Discrete(1)

    @functools.cache  # noqa: B019
    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        return dict.fromkeys(self.agents, 0), {agent: {} for agent in self.agents}

    def step(self, actions):
        agents, self.agents = self.agents, []
        pay = float(len(set(actions.values())) == 1)
        flags = dict.fromkeys(agents, True), dict.fromkeys(agents, False)
        return dict.fromkeys(agents, 0), dict.fromkeys(agents, pay), *flags, {agent: {} for agent in agents}


class Guess(Renderer):
    def observe(self, env, agent):
        return "Choose."

    def parse(self, env, agent, text):
        return {"left": 0, "right": 1}.get(text)

    def legal(self, env, agent):
        return ["left", "right"]

    def outcome(self, env, agent, returns):
        return returns[agent] > 0, returns[agent]


def test_a_parallel_environment_is_played_in_turns_that_count_together():
    env = TurnsEnv(PettingZooText(Matching(), Guess()))
    assert results(play(env, ["left", "left"])[-1]) == {"a_0": (True, 1.0), "b_0": (True, 1.0)}
    *_, terminated, _, info = play(env, ["left", "right"])
    assert terminated
    assert results(info) == {"a_0": (False, 0.0), "b_0": (False, 0.0)}


def test_a_forfeit_is_paid_as_pettingzoo_does_unless_told_otherwise():
    env = TurnsEnv(PettingZooText(Matching(), Guess(), retries=0))
    assert play(env, ["up"])[-1]["rewards"] == {"a_0": -1.0, "b_0": 0.0}


def test_a_team_of_texts_stays_as_it_is():
    env = CountingTeam()
    assert as_text_env(env, "team", {}).env is env
