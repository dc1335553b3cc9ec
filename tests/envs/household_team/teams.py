"""Small houses and ways to play teams in them, for the tests of this folder."""

import json
from pathlib import Path

from agentgym_rft.envs.alfworld.game import Game, Goal, TaskType
from agentgym_rft.envs.alfworld.pddl import game_document
from agentgym_rft.envs.household_team.env import HouseholdTeamEnv
from tests.envs.alfworld.tiny_games import household

TASK = "train/pick-None-None/trial_1"
RECEPTACLES = {"Shelf_bar_1": "loc_bar_1", "Table_bar_1": "loc_bar_2", "Drawer_bar_1": "loc_bar_3"}
OBJECTS = {
    "Mug_bar_1": ["Drawer_bar_1"],  # `mug 2`, as numbers fall along the list
    "Mug_bar_2": ["Table_bar_1"],
    "Apple_bar_1": ["Table_bar_1", "Drawer_bar_1"],
    "DeskLamp_bar_1": ["Shelf_bar_1"],
}


def room(kind=TaskType.SIMPLE, target="Shelf") -> Game:
    """A shelf with a lamp, a table with a mug and an apple, a closed drawer with a mug and the same apple."""
    return household(Goal(kind, "Mug", target), RECEPTACLES, OBJECTS)


def team(folder: Path, game: Game, **options) -> HouseholdTeamEnv:
    """An environment with this one game, at its start."""
    path = folder / "json_2.1.1" / TASK / "game.tw-pddl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(game_document(game)))
    env = HouseholdTeamEnv(data=str(folder), **options)
    env.reset(options={"task_id": TASK})
    return env


def act(env: HouseholdTeamEnv, *actions: str) -> str:
    """Take turns. Returns what the agent of the last one reads now."""
    for action in actions:
        agent = env.agent_selection
        env.step(action)
    return env.observe(agent)
