"""Environments of several agents with one fault each: `CountingTeam` with one thing broken."""

import json

import gymnasium as gym

from agentgym_rft.envs.multi_agent import TextAECEnv
from tests.counting_team import CountingTeam


class WithoutSnapshots(CountingTeam):
    can_snapshot = False

    def snapshot(self):
        return TextAECEnv.snapshot(self)


class NumbersIn(CountingTeam):
    def action_space(self, agent):
        return gym.spaces.Discrete(3)


class RewardAtReset(CountingTeam):
    def reset(self, seed=None, options=None):
        super().reset(seed, options)
        self.rewards["seat_1"] = float("nan")


class TellsNumbers(WithoutSnapshots):
    """Who waits reads a number."""

    def observe(self, agent):
        return super().observe(agent) if agent == self.agent_selection else 7


class ChangesOrder(CountingTeam):
    def step(self, action):
        super().step(action)
        self.agents.reverse()


class ChangesRoles(CountingTeam):
    def role(self, agent):
        return "beginner" if self._num_steps < 2 else "counter"


class ScoresBeyondOne(CountingTeam):
    def _facts(self, agent):
        facts = super()._facts(agent)
        return facts | {"score": facts["score"] + (0.5 if agent == "seat_0" else -0.5)}


class ForgetsTheSum(CountingTeam):
    """What `last` gives is not what was rewarded."""

    def _act(self, agent, action):
        self.give(agent, 0.5)
        return super()._act(agent, action)

    def _accumulate_rewards(self):
        pass


class DiffersForOneSeed(CountingTeam):
    """What it is depends on the instance, for the seed of PettingZoo's test only."""

    made = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1
        self.number = self.made

    def reset(self, seed=None, options=None):
        super().reset(seed, options)
        if seed == 42:
            self.infos[self.agent_selection]["number"] = self.number


class AnyoneActs(CountingTeam):
    def act(self, agent, action):
        self.step(action)


class ReadOnce(WithoutSnapshots):
    """Reading the mail of one whose turn it is not empties it, after it was shown."""

    def observe(self, agent):
        shown = super().observe(agent)
        if agent != self.agent_selection and not self.terminations.get(agent, True):
            self._inbox[agent] = []
        return shown


class ShowsInstance(WithoutSnapshots):
    made = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1
        self.number = self.made

    def observe(self, agent):
        is_waiting = agent in self.agents and agent != self.agent_selection
        is_playing = is_waiting and not self.terminations[agent] and not self.truncations[agent]
        return f"instance {self.number}" if is_playing else super().observe(agent)


class LosesSums(CountingTeam):
    def restore(self, snapshot):
        super().restore(snapshot)
        self._cumulative_rewards = dict.fromkeys(self._cumulative_rewards, 0.5)


class LosesTurn(CountingTeam):
    """Whose turn comes after the steps of those that are out is not in the snapshot."""

    def _facts(self, agent):
        return super()._facts(agent) | {"state_key": f"{self._task_id} {self.count} {self._num_steps}"}

    def give(self, agent, reward):
        if agent in self.rewards:
            super().give(agent, reward)

    def _act(self, agent, action):
        if self._num_steps == 0:
            self.leave(agent)
        following = super()._act(agent, action)
        return None if following is None else "seat_1"

    def restore(self, snapshot):
        super().restore(json.dumps(json.loads(snapshot) | {"waiting": None}).encode())
