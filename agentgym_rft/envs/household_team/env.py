"""Several agents in one household: private observations, one goal, and a channel to say things."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from agentgym_rft.envs.alfworld.rules import NOTHING_HAPPENS
from agentgym_rft.envs.alfworld.tasks import compiled, task_source
from agentgym_rft.envs.base import SPLITS, Expert, RandomActions
from agentgym_rft.envs.household_team import speech
from agentgym_rft.envs.household_team.experts import LOOK, TASK_LINE, WAIT, PlannerExpert, WorkerExpert
from agentgym_rft.envs.household_team.house import House
from agentgym_rft.envs.household_team.plans import TeamPlan, team_plan
from agentgym_rft.envs.multi_agent import TeamTaskEnv
from agentgym_rft.errors import ConfigError, EnvError, did_you_mean

ROLES = ("workers", "planner")
MAX_AGENTS = 16
PLANNER = "planner"
SAID, WAITED = "Your message was sent.", "You wait."
NO_HANDS = "You are not in the house: say something (say: TEXT) or wait."
NO_WORDS = "Your message is empty, so nobody heard it. Write say: TEXT."
TOO_LONG = "Your message has {} characters, so nobody heard it. At most {} are allowed."
_LONGEST = 1_000  # characters of a command; far more than any has


class HouseholdTeamEnv(TeamTaskEnv):
    """Agents in one ALFWorld house, in turns. Reward 1 to each when the goal holds, else 0.

    An agent reads what the house answers to its own commands, then what the others said. With one worker an episode is
    ALFWorld's.

    Args:
        data, split, admissible: as for `ALFWorldEnv`.
        max_steps: the episode is truncated after so many turns, all agents' together.
        num_agents: seats, 1 to 16; with a planner at least 2.
        roles: `workers`: `worker_1` to `worker_n`, all alike. `planner`: the first seat is the `planner`, who reads the
            task, not the room, and can only talk; the workers read the room, not the task.
        max_say: characters that a message may have.
    Raises:
        DataError: the folder is missing or not in the layout, or the split is unknown.
        ConfigError: another argument is wrong.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["ansi"],
        "name": "household_team_v0",
        "is_parallelizable": False,
    }
    splits: ClassVar[tuple[str, ...]] = SPLITS
    snapshot_kind: ClassVar[str] = "household-team-0"

    def __init__(
        self,
        data: str | None = None,
        split: str = "train",
        max_steps: int = 50,
        num_agents: int = 2,
        roles: Literal["workers", "planner"] = "workers",
        max_say: int = 200,
        admissible: bool = True,
        render_mode: str | None = None,
    ) -> None:
        _check_team(num_agents, roles, max_say)
        num_workers = num_agents - (roles == "planner")
        self._workers = [f"worker_{number}" for number in range(1, num_workers + 1)]
        seats = self._workers if roles == "workers" else [PLANNER, *self._workers]
        team = {"num_agents": num_agents, "roles": roles, "max_say": max_say}
        super().__init__(seats, split, max_steps, team, render_mode)
        self._source = task_source(data)
        self._max_say = max_say
        self._show_admissible = admissible
        self._house: House | None = None
        self._goal = self._task_type = self._key = ""
        self._won = False

    def role(self, agent: str) -> str:
        return PLANNER if agent == PLANNER else "worker"

    def task_ids(self, split: str) -> Sequence[str]:
        return self._source.task_ids(split)

    def task_content(self, task_id: str) -> bytes:
        """Return the content of ALFWorld's task, with the team where it is more than one worker."""
        content = self._source.game(task_id).content()
        return content if len(self.possible_agents) == 1 else content + json.dumps(self._options).encode()

    def noop(self, agent: str) -> str:
        """Return `look`, or `wait` for the planner."""
        return WAIT if agent == PLANNER else LOOK

    def remaining(self) -> int | None:
        """Return the turns of `team_plan`, 0 if it is won: the fewest in which one agent, or two with an object each,
        win.

        An upper bound of the fewest possible, and exact for one agent. It says what the house needs, not who knows the
        task. None before the first episode, and where only slicing would win.
        """
        if self._house is None or self._won:
            return None if self._house is None else 0
        plan = self._plan()
        return None if plan is None else plan.turns

    def expert(self, agent: str, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        """Return a planner that says the task and waits (without noise), or a worker that searches."""
        if agent == PLANNER:
            return PlannerExpert(observation)
        return WorkerExpert(observation, rng, noise, self._workers.index(agent), len(self._workers))

    def oracle(self, agent: str) -> Expert:
        """Follow the team's plan, made anew at each turn. Raises `EnvError` where no plan wins."""
        return _Oracle(self, agent)

    def random_player(self, agent: str, rng: np.random.Generator) -> Expert:
        """Pick among the admissible actions, also where `info` does not list them."""
        return RandomActions(lambda: self.admissible_actions(agent), rng)

    def close(self) -> None:
        super().close()
        self._house = None

    def planned(self, agent: str) -> str:
        """Return the agent's next action in the team's plan. Raises `EnvError` if no plan wins."""
        plan = self._plan()
        if plan is None:
            raise EnvError(f"No plan of the oracle wins '{self._goal}' from here; restart the game.")
        return next(iter(plan.commands.get(agent, ())), self.noop(agent))

    def briefing(self) -> str:
        """Return the message of a planner that knows the task; a wait if messages may not be that long."""
        text = f"{TASK_LINE}{self._goal}"
        return f"say: {text}" if len(text) <= self._max_say else WAIT

    def admissible_actions(self, agent: str) -> list[str]:
        """Return the actions that can be obeyed now, messages left out."""
        return [WAIT] if agent == PLANNER else self._running().admissible(agent)

    def _begin(self, task_id: str) -> str:
        game = compiled(self._source, task_id)
        self._house = House(game, self._workers)
        self._goal, self._task_type = game.task, game.win.kind.value
        self._won = self._house.enter(self._workers[0]).won
        self._key = ""
        for agent in self.possible_agents:
            self.tell(agent, self._opening(agent, game.intro))
        return self.possible_agents[0]

    def _opening(self, agent: str, intro: str) -> str:
        if PLANNER not in self.possible_agents:
            return intro
        room, _, _ = intro.rpartition(TASK_LINE)
        welcome, _, _ = room.partition("\n\n")
        return f"{welcome}\n\n{TASK_LINE}{self._goal}" if agent == PLANNER else room.rstrip()

    def _act(self, agent: str, action: str) -> str | None:
        self._key = ""
        message = speech.spoken(action)
        if message is not None:
            self._say(agent, message)
        elif agent == PLANNER:
            self._plan_only(agent, action)
        else:
            answer = self._running().obey(agent, action) if len(action.strip()) <= _LONGEST else NOTHING_HAPPENS
            self.tell(agent, answer)
            if answer == NOTHING_HAPPENS:
                self.refuse(agent)
        if agent != PLANNER and self._running().enter(agent).won:
            self._won = True
            for name in self.possible_agents:
                self.give(name, 1.0)
            return None
        return self._order(agent)[1 % len(self.possible_agents)]

    def _say(self, agent: str, message: str) -> None:
        if 0 < len(message) <= self._max_say:
            self.tell(agent, SAID)
            for other in self.possible_agents:
                if other != agent:
                    self.tell(other, speech.line(agent, message))
            return
        self.tell(agent, TOO_LONG.format(len(message), self._max_say) if message else NO_WORDS)
        self.refuse(agent)

    def _plan_only(self, agent: str, action: str) -> None:
        is_wait = action.strip().lower() == WAIT
        self.tell(agent, WAITED if is_wait else NO_HANDS)
        if not is_wait:
            self.refuse(agent)

    def _facts(self, agent: str) -> dict[str, Any]:
        knows_task = agent == PLANNER or PLANNER not in self.possible_agents
        facts: dict[str, Any] = {
            "won": self._won,
            "score": float(self._won),
            "state_key": self._state_key(),
            "task_type": self._task_type,
            **({"goal": self._goal} if knows_task else {}),
        }
        if self._show_admissible:
            facts["admissible_actions"] = self.admissible_actions(agent)
        return facts

    def _state_key(self) -> str:
        """Return 32 hex digits of the house, the agents in it, whose turn it is, and what the others are still to
        read.
        """
        if not self._key:
            turn = self.agent_selection
            unread = [self._inbox[agent] for agent in self.possible_agents if agent != turn]
            game = self._running().game.digest
            state = json.dumps([game, self._options, self._running().saved(), turn, unread, self._won])
            self._key = hashlib.blake2b(state.encode(), digest_size=16).hexdigest()
        return self._key

    def _saved(self) -> dict[str, Any]:
        return {**self._running().saved(), "won": self._won}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        self._running().resume(saved)
        self._won = bool(saved["won"])

    def _plan(self) -> TeamPlan | None:
        return team_plan(self._running(), self._order(self.agent_selection))

    def _order(self, agent: str) -> list[str]:
        """Return all seats in the order of play, from an agent on."""
        seat = self.possible_agents.index(agent)
        return [*self.possible_agents[seat:], *self.possible_agents[:seat]]

    def _running(self) -> House:
        if self._house is None:
            raise EnvError("There is no episode; call reset first.")
        return self._house


class _Oracle:
    """One seat of a team that knows everything; the planner says the task first, for whoever listens."""

    def __init__(self, env: HouseholdTeamEnv, agent: str) -> None:
        self._env, self._agent = env, agent
        self._is_silent = agent != PLANNER

    def act(self, observation: str) -> str:
        if not self._is_silent:
            self._is_silent = True
            return self._env.briefing()
        return self._env.planned(self._agent)


def _check_team(num_agents: int, roles: str, max_say: int) -> None:
    if roles not in ROLES:
        raise ConfigError(f"There are no roles '{roles}'.{did_you_mean(roles, ROLES)}")
    least = 1 if roles == "workers" else 2
    if not least <= num_agents <= MAX_AGENTS:
        raise ConfigError(f"num_agents is {num_agents}; expected {least} to {MAX_AGENTS} with roles '{roles}'.")
    if max_say < 1:
        raise ConfigError(f"max_say is {max_say}; expected at least 1 character.")
