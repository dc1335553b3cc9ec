"""The facts about entities: their sentences in documents, and their words in questions."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPENINGS = {"person": "Who is "}  # a question for anything else begins with "What is "


@dataclass(frozen=True, slots=True)
class Relation:
    """A fact about each entity of a kind. `{o}` is the object in a sentence, `{s}` the subject in a phrase."""

    name: str
    subject: str
    object: str  # a kind, or "product" or "number"
    sentences: tuple[str, ...]
    phrase: str
    range: tuple[int, int] = (0, 0)  # of a number


RELATIONS: dict[str, Relation] = {
    relation.name: relation
    for relation in (
        Relation(
            "birthplace",
            "person",
            "town",
            (
                "Born in {o}, the child showed an early talent.",
                "The family home was in {o}, where the birth took place.",
            ),
            "the birthplace of {s}",
        ),
        Relation(
            "employer",
            "person",
            "company",
            ("The current employer is {o}.", "Since school the only paid job has been at {o}."),
            "the employer of {s}",
        ),
        Relation(
            "teacher",
            "person",
            "person",
            ("The trade was learned from {o}.", "{o} was the teacher of those early years."),
            "the teacher of {s}",
        ),
        Relation(
            "river",
            "town",
            "river",
            ("It lies on the banks of the {o}.", "The {o} flows through the middle of it."),
            "the river at {s}",
        ),
        Relation(
            "mayor",
            "town",
            "person",
            ("The mayor is {o}.", "The voters last chose {o} to lead the council as mayor."),
            "the mayor of {s}",
        ),
        Relation(
            "town_founded",
            "town",
            "number",
            ("It was founded in {o}.", "The town charter dates from {o}."),
            "the founding year of {s}",
            (1020, 1790),
        ),
        Relation(
            "seat",
            "company",
            "town",
            ("The head office is in {o}.", "It is run from a large house in {o}."),
            "the home town of {s}",
        ),
        Relation(
            "founder",
            "company",
            "person",
            ("It was founded by {o}.", "{o} set it up with borrowed money."),
            "the founder of {s}",
        ),
        Relation(
            "product",
            "company",
            "product",
            ("It is best known for {o}.", "Most of its income is from {o}."),
            "the main product of {s}",
        ),
        Relation(
            "author",
            "book",
            "person",
            ("It was written by {o}.", "Its author is {o}."),
            "the author of {s}",
        ),
        Relation(
            "setting",
            "book",
            "town",
            ("The story is set in {o}.", "All of it takes place in {o}."),
            "the setting of {s}",
        ),
        Relation(
            "published",
            "book",
            "number",
            ("It was first published in {o}.", "The first edition is of {o}."),
            "the publication year of {s}",
            (1840, 1999),
        ),
        Relation(
            "source",
            "river",
            "mountain",
            ("It rises on {o}.", "Its springs are on the slopes of {o}."),
            "the mountain at the source of {s}",
        ),
        Relation(
            "mouth",
            "river",
            "sea",
            ("It flows into the {o}.", "Its waters reach the {o}."),
            "the sea at the mouth of {s}",
        ),
        Relation(
            "length",
            "river",
            "number",
            ("It is {o} kilometres long.", "From source to mouth it measures {o} kilometres."),
            "the length in kilometres of {s}",
            (40, 990),
        ),
        Relation(
            "height",
            "mountain",
            "number",
            ("It is {o} metres high.", "The summit is at {o} metres."),
            "the height in metres of {s}",
            (900, 6900),
        ),
        Relation(
            "depth",
            "sea",
            "number",
            ("It is {o} metres deep.", "Divers measured a depth of {o} metres."),
            "the depth in metres of {s}",
            (60, 4800),
        ),
    )
}


def question_text(start: str, relations: tuple[str, ...]) -> str:
    """Return the question for the end of a chain, such as "Who is the mayor of the birthplace of Ada Aldane?"."""
    phrase = start
    for name in relations:
        phrase = RELATIONS[name].phrase.format(s=phrase)
    return f"{OPENINGS.get(RELATIONS[relations[-1]].object, 'What is ')}{phrase}?"


def read_question(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Return start and relations of a question that `question_text` wrote; None for another."""
    match = re.fullmatch(r"(?:Who|What) is (.+)\?", text.strip())
    if match is None:
        return None
    phrase, found = match[1], []
    while True:
        prefixes = {name: relation.phrase.removesuffix("{s}") for name, relation in RELATIONS.items()}
        name = next((name for name, prefix in prefixes.items() if phrase.startswith(prefix)), None)
        if name is None:
            break
        found.append(name)
        phrase = phrase.removeprefix(prefixes[name])
    return (phrase, tuple(found[::-1])) if found else None


def read_fact(relation: str, text: str) -> str | None:
    """Return the object of a relation that a document states; None if it does not."""
    for sentence in RELATIONS[relation].sentences:
        before, after = (re.escape(part) for part in sentence.split("{o}"))
        match = re.search(rf"(?:^|(?<=[.] )){before}([^.]+?){after}", text)
        if match is not None:
            return match[1]
    return None
