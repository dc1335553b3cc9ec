"""Household games made from tables, one for each task id, with no download.

A task id says what it is: `<split>/<type>-<object>-<target>-<scene>-<index>`, as in `train/heat-mug-cabinet-12-0007`.
A game depends on its id and on `GENERATOR_VERSION` only, not on other ids, call order, platform or Python version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from types import MappingProxyType

from agentgym_rft.envs.alfworld.game import Game, Goal, TaskType
from agentgym_rft.envs.alfworld.opening import opening_plan
from agentgym_rft.envs.alfworld.scenes import Habit, Scene, new_key, scenes, scenes_of, tables
from agentgym_rft.envs.draws import Draws
from agentgym_rft.errors import DataError

# Games by task type; train as in ALFWorld's train split, the other two in the same proportions.
TASK_MIX: Mapping[str, Mapping[TaskType, int]] = MappingProxyType(
    {
        split: dict(zip(TaskType, numbers, strict=True))
        for split, numbers in {
            "train": (790, 308, 650, 459, 533, 813),
            "valid_seen": (44, 17, 37, 26, 30, 46),
            "valid_unseen": (44, 17, 37, 26, 30, 46),
        }.items()
    }
)
_SENTENCES: Mapping[TaskType, tuple[str, str]] = MappingProxyType(
    {
        TaskType.SIMPLE: ("put a {o} in {r}.", "put some {o} on {r}."),
        TaskType.LIGHT: ("look at {o} under the {r}.", "examine the {o} with the {r}."),
        TaskType.CLEAN: ("put a clean {o} in {r}.", "clean some {o} and put it in {r}."),
        TaskType.HEAT: ("put a hot {o} in {r}.", "heat some {o} and put it in {r}."),
        TaskType.COOL: ("put a cool {o} in {r}.", "cool some {o} and put it in {r}."),
        TaskType.TWO: ("put two {o} in {r}.", "find two {o} and put them in {r}."),
    }
)
_GOAL_IN_DRAWER = 0.4  # the goal's objects lie in drawers less often than others do, as in the real games
_COLD_START = 0.18  # share of kitchens where something in the fridge is cool already, as in the real games


@dataclass(frozen=True, slots=True)
class Task:
    """The task that an id names."""

    split: str
    goal: Goal
    scene: int
    index: int

    @property
    def task_id(self) -> str:
        goal = self.goal
        words = (goal.task_type.name, goal.object_type, goal.target_type)
        return f"{self.split}/{'-'.join(words).lower()}-{self.scene}-{self.index:04d}"


@cache
def _slots(scene: int, object_type: str, goal: Goal | None) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return where the object type may lie in the scene: cumulative weights and receptacle indices; both may be
    empty.

    With a goal the objects are those that it asks for. If the table knows no place for them here, any that can contain
    the type will do.
    """
    avoided = _avoided(goal) if goal else ""
    room = scenes()[scene]
    kinds = [receptacle.kind for receptacle in room.receptacles]
    habit = tables().rooms[room.kind].objects[object_type]
    weights = {i: habit.places.get(k, 0.0) / kinds.count(k) for i, k in enumerate(kinds) if k != avoided}
    if goal:
        weights = {i: weight * (_GOAL_IN_DRAWER if kinds[i] == "Drawer" else 1.0) for i, weight in weights.items()}
    chosen = {i: weight for i, weight in weights.items() if weight}
    if not chosen:
        chosen = {i: 1.0 for i in weights if object_type in tables().can_contain[kinds[i]]}
    return tuple(accumulate(chosen.values())), tuple(chosen)


def _avoided(goal: Goal) -> str:
    """Return the receptacle type in which the goal's objects may not start, as in the real games."""
    return goal.target_type if goal.task_type in (TaskType.SIMPLE, TaskType.TWO) else ""


def _is_possible(goal: Goal, scene: Scene) -> bool:
    if goal.task_type is TaskType.LIGHT:
        has_target = bool(_slots(scene.number, goal.target_type, None)[1])
    else:
        has_target = goal.target_type in scene.kinds()
    return has_target and bool(_slots(scene.number, goal.object_type, goal)[1])


def _goals(task_type: TaskType, split: str) -> Iterator[tuple[Goal, int, float]]:
    """Yield every goal and scene number of a type and split, with its weight."""
    for kind, rows in tables().goals[task_type.name.lower()].items():
        rooms = [scene for scene in scenes_of(split) if scene.kind == kind]
        for object_type, target_type, weight in rows:
            goal = Goal(task_type, object_type, target_type)
            numbers = [scene.number for scene in rooms if _is_possible(goal, scene)]
            for number in numbers:
                yield goal, number, weight / len(numbers)


@cache
def _catalogue(split: str) -> Mapping[str, Task]:
    tasks: list[Task] = []
    for task_type, count in TASK_MIX[split].items():
        goals = list(_goals(task_type, split))
        cumulative = tuple(accumulate(weight for _, _, weight in goals))
        draws = Draws(f"tasks/{split}/{task_type.name}")
        for _ in range(count):
            goal, number, _ = goals[draws.weighted(cumulative)]
            tasks.append(Task(split, goal, number, len(tasks)))
    by_id = {task.task_id: task for task in tasks}
    panel = sorted(by_id, key=lambda task_id: hashlib.sha256(task_id.encode()).digest())
    return MappingProxyType({task_id: by_id[task_id] for task_id in panel})


def generated_task_ids(split: str) -> tuple[str, ...]:
    """Return the task ids of a split (`train` 3,553, `valid_seen` 200, `valid_unseen` 200), in the order of its panel.

    The order is that of the ids' SHA-256, so that the first N are a fair sample over types and scenes.

    Raises:
        DataError: the split is unknown.
    """
    if split not in TASK_MIX:
        raise DataError(f"There is no split '{split}'; generated games have {', '.join(TASK_MIX)}.")
    return tuple(_catalogue(split))


def find_task(task_id: str) -> Task:
    """Return the task that an id stands for. Raises `DataError` for an id that is not in a split."""
    split = task_id.split("/", 1)[0]
    task = _catalogue(split).get(task_id) if split in TASK_MIX else None
    if task is None:
        example = generated_task_ids("train")[0]
        raise DataError(
            f"There is no generated game '{task_id}'. Ids look like '{example}'; "
            f"task_ids(split) lists them for {', '.join(TASK_MIX)}."
        )
    return task


def _numbers(task: Task, habits: Mapping[str, Habit], draws: Draws) -> Iterator[tuple[str, int]]:
    """Return the number of objects of each type in the game."""
    goal = task.goal
    least = {goal.object_type: 2 if goal.task_type is TaskType.TWO else 1}
    if goal.task_type is TaskType.LIGHT:
        least[goal.target_type] = 1
    for object_type, habit in habits.items():
        is_present, number = draws.chance(habit.presence), 1 + draws.weighted(habit.counts)
        yield object_type, max(number if is_present else 0, least.get(object_type, 0))


def _place_objects(task: Task, draws: Draws) -> list[tuple[str, str, int]]:
    """Return the objects as (key, type, receptacle index), sorted by key."""
    habits = tables().rooms[scenes()[task.scene].kind].objects
    placed: dict[str, tuple[str, str, int]] = {}
    for object_type, number in _numbers(task, habits, draws):
        goal = task.goal if object_type == task.goal.object_type else None
        cumulative, indices = _slots(task.scene, object_type, goal)
        for _ in range(number if indices else 0):
            key = new_key(object_type, draws)
            while key in placed:
                key = new_key(object_type, draws)
            placed[key] = (key, object_type, indices[draws.weighted(cumulative)])
    return [placed[key] for key in sorted(placed)]


@cache
def _scene_facts(number: int) -> tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]:
    scene = scenes()[number]
    known = tables().rooms[scene.kind].objects
    can_contain = tables().can_contain
    return (
        ("receptacleType", tuple((r.key, f"{r.kind}Type") for r in scene.receptacles)),
        ("canContain", tuple((f"{k}Type", f"{o}Type") for k in scene.kinds() for o in known if o in can_contain[k])),
        ("openable", tuple((r.key,) for r in scene.receptacles if r.is_openable)),
        ("receptacleAtLocation", tuple((r.key, r.location) for r in scene.receptacles)),
    )


def _object_facts(scene: Scene, placed: Sequence[tuple[str, str, int]]) -> dict[str, list[tuple[str, ...]]]:
    facts: dict[str, list[tuple[str, ...]]] = {"objectType": [], "inReceptacle": [], "objectAtLocation": []}
    properties = tables().properties
    for key, object_type, index in placed:
        receptacle = scene.receptacles[index]
        facts["objectType"].append((key, f"{object_type}Type"))
        facts["inReceptacle"].append((key, receptacle.key))
        facts["objectAtLocation"].append((key, receptacle.location))
        for predicate in properties.get(object_type, ()):
            facts.setdefault(predicate, []).append((key,))
    return facts


def _cold(scene: Scene, facts: Mapping[str, list[tuple[str, ...]]], draws: Draws) -> list[tuple[str, ...]]:
    if draws.uniform() >= _COLD_START:
        return []
    fridges = {receptacle.key for receptacle in scene.receptacles if receptacle.kind == "Fridge"}
    inside = {key for key, receptacle in facts["inReceptacle"] if receptacle in fridges}
    candidates = [row for row in facts.get("coolable", []) if row[0] in inside]
    return [draws.one(candidates)] if candidates else []


def generate_game(task_id: str) -> Game:
    """Return the game of a task id, unsolved at the start, with a shortest plan as its walkthrough.

    Raises:
        DataError: the id is not in a split.
    """
    task = find_task(task_id)
    goal, scene = task.goal, scenes()[task.scene]
    draws = Draws(f"game/{task_id}")
    start = draws.one(scene.starts)
    sentence = _SENTENCES[goal.task_type][draws.below(2)]
    placed = _place_objects(task, draws)
    facts = _object_facts(scene, placed)
    facts["isCool"] = _cold(scene, facts, draws)
    facts["atLocation"] = [("agent1", start)]
    made = dict(_scene_facts(scene.number)) | {name: tuple(lines) for name, lines in facts.items()}
    cool = {key for (key,) in facts["isCool"]}
    return Game(
        objects=tuple(key for key, _, _ in placed),
        receptacles=tuple(receptacle.key for receptacle in scene.receptacles),
        locations=tuple(dict.fromkeys([start, *(receptacle.location for receptacle in scene.receptacles)])),
        facts={name: lines for name, lines in made.items() if lines},
        goal=goal,
        task=sentence.format(o=goal.object_type.lower(), r=goal.target_type.lower()),
        walkthrough=opening_plan(goal, task.scene, placed, cool),
    )
