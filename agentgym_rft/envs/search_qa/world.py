"""The fictional world: entities, the facts that link them, and a document for each entity.

The world has two regions that no fact connects. Questions for training are about the one, test questions about the
other, while all documents are searched together.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentgym_rft.envs.draws import Draws
from agentgym_rft.envs.search_qa import words
from agentgym_rft.envs.search_qa.relations import RELATIONS, Relation

VERSION = 1  # rises whenever a document changes
# Entities by kind in the region of each split; together 400.
REGION_SIZES = {
    "train": {"person": 96, "town": 44, "river": 24, "mountain": 14, "sea": 6, "company": 46, "book": 70},
    "test": {"person": 32, "town": 15, "river": 8, "mountain": 5, "sea": 3, "company": 15, "book": 22},
}


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that has a document. Facts map a relation to an entity's id or to a literal."""

    id: str
    kind: str
    name: str
    region: str
    facts: dict[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class World:
    """All entities by id, in a fixed order."""

    entities: dict[str, Entity]

    def name(self, value: str) -> str:
        """Return the name of an entity, or the literal itself."""
        return self.entities[value].name if value in self.entities else value


@functools.cache
def make_world() -> World:
    """Return the world; the same in every process."""
    draws = Draws(f"search-qa {VERSION}")
    names = _names(draws)
    entities: dict[str, Entity] = {}
    for region, sizes in REGION_SIZES.items():
        members = {kind: [f"{region}-{kind}-{number}" for number in range(size)] for kind, size in sizes.items()}
        titles = {id: names[kind].pop() for kind, ids in members.items() for id in ids}
        for kind, ids in members.items():
            for id in ids:
                facts = _facts(id, kind, members, draws)
                shown = {relation: titles.get(value, value) for relation, value in facts.items()}
                text = _document(kind, titles[id], shown, draws)
                entities[id] = Entity(id, kind, titles[id], region, facts, text)
    return World(entities)


def _names(draws: Draws) -> dict[str, list[str]]:
    """Return distinct names by kind, shuffled."""
    first, last = words.FIRST_NAMES, words.LAST_NAMES
    lists = {
        # Each last name is shared by at most four people, and no first name comes with it twice.
        "person": [f"{first[(7 * n + 11 * k) % len(first)]} {last[n]}" for n in range(len(last)) for k in range(4)],
        "town": [a + b for a in words.TOWN_STARTS for b in words.TOWN_ENDS],
        "river": [a + b for a in words.RIVER_STARTS for b in words.RIVER_ENDS],
        "mountain": [f"Mount {name}" for name in words.MOUNTAIN_NAMES],
        "sea": [f"{name} Sea" for name in words.SEA_NAMES],
        "company": [f"{a} {b}" for a in words.COMPANY_STARTS for b in words.COMPANY_ENDS],
        "book": [f"The {a} {b}" for a in words.BOOK_STARTS for b in words.BOOK_ENDS],
    }
    return {kind: shuffled(names, draws) for kind, names in lists.items()}


def shuffled(items: Sequence[str], draws: Draws) -> list[str]:
    """Return the items in random order."""
    left = list(items)
    return [left.pop(draws.below(len(left))) for _ in range(len(left))]


def _facts(id: str, kind: str, members: dict[str, list[str]], draws: Draws) -> dict[str, str]:
    """Return a value for each relation of the kind.
    Teachers come before their pupils, so that teaching has no circles.
    """
    facts = {}
    for relation in RELATIONS.values():
        if relation.subject != kind:
            continue
        if relation.object in members:
            values = members[relation.object]
            if relation.object == kind:
                values = values[: values.index(id)]
            if values:
                facts[relation.name] = draws.one(values)
        else:
            facts[relation.name] = _literal(relation, draws)
    return facts


def _literal(relation: Relation, draws: Draws) -> str:
    if relation.object == "product":
        return draws.one(words.PRODUCTS)
    low, high = relation.range
    return str(low + draws.below(high - low + 1))


def _document(kind: str, name: str, shown: dict[str, str], draws: Draws) -> str:
    """Two to five sentences: what it is, its facts in random order, and something that nobody asks for."""
    opening, closing = _frame(kind, name, draws)
    sentences = []
    for relation in shuffled(list(shown), draws):
        forms = RELATIONS[relation].sentences
        sentences.append(draws.one(forms).format(o=shown[relation]))
    return " ".join([opening, *sentences, closing])


def _frame(kind: str, name: str, draws: Draws) -> tuple[str, str]:
    one = draws.one
    if kind == "person":
        profession = one(words.PROFESSIONS)
        article = "an" if profession[0] in "aeiou" else "a"
        return f"{name} is {article} {profession}.", f"In spare hours {name} {one(words.HOBBIES)}."
    if kind == "town":
        return f"{name} is a town.", f"Visitors of {name} come for {one(words.SIGHTS)}."
    if kind == "river":
        return f"The {name} is a river.", f"The {name} is known for {one(words.WATERS)}."
    if kind == "mountain":
        return f"{name} is a mountain.", f"On {name} there are {one(words.SLOPES)}."
    if kind == "sea":
        return f"The {name} is a sea.", f"The {name} is known for {one(words.COASTS)}."
    if kind == "company":
        return f"{name} is a company.", f"Many workers of {name} own a part of it."
    return f"{name} is a {one(words.GENRES)}.", f"{name} has been reprinted {2 + draws.below(8)} times."


def chains(world: World, start: Entity, num_hops: int) -> Iterator[tuple[str, ...]]:
    """Yield the relations of every chain of so many facts that begins at an entity and visits none twice."""

    def walk(path: tuple[str, ...], relations: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if len(relations) == num_hops:
            yield relations
            return
        here = world.entities.get(path[-1])
        for relation, value in (here.facts if here is not None else {}).items():
            if value not in path:
                yield from walk((*path, value), (*relations, relation))

    yield from walk((start.id,), ())
