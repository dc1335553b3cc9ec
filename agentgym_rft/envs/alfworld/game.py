"""A household game as facts: what `game.tw-pddl` files say, and what the generator makes.

Facts use the predicates of the ALFRED PDDL domain (alfworld 0.4.2). `pddl.py` reads and writes the official file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class TaskType(StrEnum):
    """The six goals of ALFWorld; values are the official directory prefixes."""

    SIMPLE = "pick_and_place_simple"
    LIGHT = "look_at_obj_in_light"
    CLEAN = "pick_clean_then_place_in_recep"
    HEAT = "pick_heat_then_place_in_recep"
    COOL = "pick_cool_then_place_in_recep"
    TWO = "pick_two_obj_and_place"


@dataclass(frozen=True, slots=True)
class Goal:
    """`target_type` is a receptacle type, or the lamp's object type for LIGHT. Types lack the `Type` suffix."""

    task_type: TaskType
    object_type: str
    target_type: str
    sliced: bool = False  # the object must also have been sliced


@dataclass(frozen=True, slots=True)
class Game:
    """One game.

    `objects`, `receptacles`, `locations` are instance ids (`Mug_bar__plus_01...`), in file order; class names that the
    official files list as untyped objects are not among them. `facts` maps a predicate (domain spelling,
    `inReceptacle`) to its argument tuples in file order; type arguments keep their `Type` suffix.
    """

    objects: tuple[str, ...]
    receptacles: tuple[str, ...]
    locations: tuple[str, ...]
    facts: Mapping[str, tuple[tuple[str, ...], ...]]
    goal: Goal
    task: str  # the sentence after "Your task is to: "
    walkthrough: tuple[str, ...] = ()
    clean_with: tuple[str, ...] = ("SinkBasinType",)  # receptacle types that clean; older domains add SinkType

    def content(self) -> bytes:
        """Canonical content: equal for equal games, whatever the order of their facts and their walkthrough."""
        goal = [self.goal.task_type.value, self.goal.object_type, self.goal.target_type]
        body: dict[str, object] = {
            "objects": sorted(self.objects),
            "receptacles": sorted(self.receptacles),
            "locations": sorted(self.locations),
            "facts": {name: sorted(rows) for name, rows in sorted(self.facts.items()) if rows},
            "goal": [*goal, "sliced"] if self.goal.sliced else goal,
            "task": self.task,
        }
        if self.clean_with != ("SinkBasinType",):
            body["clean_with"] = sorted(self.clean_with)
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()

    def content_hash(self) -> str:
        return hashlib.sha256(self.content()).hexdigest()
