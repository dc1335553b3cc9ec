"""Questions about the world: one for each chain of facts that was chosen for a split."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from agentgym_rft.envs.search_qa.relations import question_text
from agentgym_rft.envs.search_qa.world import VERSION, Entity, chains, make_world
from agentgym_rft.errors import DataError

MAX_HOPS = 3
QUESTIONS_PER_HOPS = {"train": 400, "test": 80}  # as many with one, two and three facts


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the entities whose documents lead to its answer, and the answers that count as right."""

    task_id: str
    text: str
    path: tuple[str, ...]  # titles of the documents to be read, in order
    answers: tuple[str, ...]  # the first is the one that documents use

    @property
    def num_hops(self) -> int:
        return len(self.path)

    def content(self) -> bytes:
        return f"{self.text}\n{self.answers[0]}".encode()


@functools.cache
def questions(split: str) -> Mapping[str, Question]:
    """Return the questions of a split by task id, with one, two and three facts in turn: any first part is a fair
    sample.
    """
    world = make_world()
    members = [entity for entity in world.entities.values() if entity.region == split]
    by_hops = []
    for num_hops in range(1, MAX_HOPS + 1):
        found = [
            (_task_id(split, entity, relations), entity, relations)
            for entity in members
            for relations in chains(world, entity, num_hops)
        ]
        found.sort(key=lambda item: hashlib.sha256(item[0].encode()).digest())
        by_hops.append(found[: QUESTIONS_PER_HOPS[split]])
    chosen = (item for turn in zip(*by_hops, strict=True) for item in turn)
    return {task_id: _question(task_id, entity, relations) for task_id, entity, relations in chosen}


def question(task_id: str) -> Question:
    """Return the question of a task id. Raises `DataError` if there is none."""
    split = task_id.split("/")[1] if task_id.count("/") == 3 else ""
    known = questions(split) if split in QUESTIONS_PER_HOPS else {}
    if task_id not in known:
        example = next(iter(questions("train")))
        raise DataError(f"There is no task '{task_id}'; expected one like '{example}'.")
    return known[task_id]


def _task_id(split: str, start: Entity, relations: tuple[str, ...]) -> str:
    return f"v{VERSION}/{split}/{start.id.removeprefix(f'{split}-')}/{'.'.join(relations)}"


def _question(task_id: str, start: Entity, relations: tuple[str, ...]) -> Question:
    world = make_world()
    path, value = [], start.id
    for relation in relations:
        path.append(world.entities[value])
        value = path[-1].facts[relation]
    answer = world.entities.get(value)
    answers = (value,) if answer is None else _spellings(answer)
    return Question(task_id, question_text(start.name, relations), tuple(entity.name for entity in path), answers)


def _spellings(entity: Entity) -> tuple[str, ...]:
    """Return the name of an entity and other ways to write it."""
    if entity.kind == "river":
        return entity.name, f"{entity.name} River", f"River {entity.name}"
    if entity.kind == "mountain":
        return entity.name, entity.name.removeprefix("Mount ")
    if entity.kind == "sea":
        return entity.name, entity.name.removesuffix(" Sea")
    return (entity.name,)
