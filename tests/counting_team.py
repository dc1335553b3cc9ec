"""An environment of two agents for tests: they count to four in turns, and win together."""

from agentgym_rft.envs.multi_agent import TeamTaskEnv
from agentgym_rft.errors import DataError


class CountingTeam(TeamTaskEnv):
    """Keeps the contract. Faulty environments in the tests are this one with one thing broken."""

    snapshot_kind = "counting-team-0"
    metadata = {"name": "counting_team_v0", "render_modes": ["ansi"], "is_parallelizable": False}  # noqa: RUF012
    goal = 4

    def __init__(self, split="train", max_steps=9, seats=2):
        super().__init__([f"seat_{number}" for number in range(seats)], split, max_steps, {"seats": seats})

    def task_ids(self, split):
        self.check_split(split)
        return [f"{split}-{number}" for number in range(4)]

    def task_content(self, task_id):
        return task_id.encode()

    def role(self, agent):
        return "counter"

    def noop(self, agent):
        return "wait"

    def expert(self, agent, observation, rng, noise=0.0):
        return Counter(self)

    def oracle(self, agent):
        return Counter(self)

    def remaining(self):
        return self.goal - self.count

    def _begin(self, task_id):
        if task_id not in [*self.task_ids("train"), *self.task_ids("test")]:
            raise DataError(f"There is no task '{task_id}'.")
        self.count = 0
        for agent in self.possible_agents:
            self.tell(agent, f"{task_id}: you are {agent}. Count to {self.goal} in turns.")
        return self.possible_agents[0]

    def _act(self, agent, action):
        if action == str(self.count + 1):
            self.count += 1
        elif action != "wait":
            self.refuse(agent)
        said = action[:20].encode("utf-8", "replace").decode()
        for other in self.possible_agents:
            self.tell(other, f"The count is {self.count}." if other == agent else f"{agent} says {said!r}.")
        if self.count == self.goal:
            for each in self.possible_agents:
                self.give(each, 1.0)
            return None
        seats = self.possible_agents
        return seats[(seats.index(agent) + 1) % len(seats)]

    def _facts(self, agent):
        return {
            "won": self.count == self.goal,
            "score": self.count / self.goal,
            "state_key": f"{self._task_id} {self.count} {self._num_steps} {self.agent_selection}",
            "admissible_actions": [str(self.count + 1), "wait"],
        }

    def _saved(self):
        return {"count": self.count}

    def _resume(self, saved):
        self.count = int(saved["count"])


class Counter:
    """Says the next number."""

    def __init__(self, env):
        self.env = env

    def act(self, observation):
        return str(self.env.count + 1)
