"""Reads and writes `game.tw-pddl`, the game file of ALFWorld.

The own engine has ALFWorld's rules built in, so a file is read only if its domain and grammar are known ones (comments,
white space and the task line aside). Known are those of alfworld 0.4.2 and those of the published games, which differ
in one rule (a receptacle of SinkType cleans, too) and in how `help`, which prints the same, is written down.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from agentgym_rft.envs.alfworld.game import Game
from agentgym_rft.envs.alfworld.goals import goal_clause, read_goal
from agentgym_rft.errors import DataError, UnsupportedGameError
from agentgym_rft.json_text import is_text, parse_json

SINK_BASIN = ("SinkBasinType",)
_DOMAINS = {  # receptacle types that clean, in alfworld 0.4.2 and in the published games
    "9f0d9545431f156d0b32fa34bc6b3c1e9660bb1b2b8e3dccf0d1bb1ebd868c64": SINK_BASIN,
    "f532a1d06502b7b51e7b250587ae1652d16e9b7ff670fbfb512b3ef75195d8b8": ("SinkType", *SINK_BASIN),
}
_GRAMMARS = frozenset(
    {
        "56608cb77f438c90da6799eb9e90c0793a7a0a106e1f19b3d2d345d93159535b",  # alfworld 0.4.2
        "442d1f4d5b50d98783128a99c2d2f55a7768b9753faeb1a7d0fddc27698532d8",  # the published games
    }
)
# Number of arguments of every predicate of the domain.
PREDICATES = {
    **dict.fromkeys(
        ("atLocation", "receptacleAtLocation", "objectAtLocation", "inReceptacle", "inReceptacleObject"), 2
    ),
    **dict.fromkeys(("receptacleType", "objectType", "canContain", "holds", "wasInReceptacle"), 2),
    **dict.fromkeys(("openable", "opened", "isReceptacleObject", "isReceptacleObjectFull", "checked", "examined"), 1),
    **dict.fromkeys(("holdsAny", "holdsAnyReceptacleObject", "full", "isClean", "cleanable", "isHot", "heatable"), 1),
    **dict.fromkeys(("isCool", "coolable", "pickupable", "moveable", "toggleable", "isOn", "isToggled"), 1),
    **dict.fromkeys(("sliceable", "isSliced"), 1),
}
_KEYS = ("pddl_domain", "grammar", "pddl_problem")
_OTHER_BACKEND = 'play it with backend="textworld" (extra `alfworld`)'
_TASK = re.compile(r'"Your task is to: ((?:[^"\\]|\\.)*)"')
_FACT = re.compile(r"\(\s*([\w-]+)\s+([^\s()]+)(?:\s+([^\s()]+))?\s*\)")
_SECTIONS = re.compile(r"\(\s*:objects\b(.*?)\)\s*\(\s*:init\b(.*)\)\s*(\(\s*:goal\b.*\))\s*\)\s*\Z", re.DOTALL)
_TEMPLATE_TASK = "UNKNOWN GOAL."


def parse_game(document: str | Mapping[str, Any], source: str) -> Game:
    """Return the game of a `game.tw-pddl` document.

    Args:
        document: the file's text, or the mapping that its JSON holds.
        source: the file's name, for messages.
    Raises:
        UnsupportedGameError: the own engine does not know the domain, the grammar or the kind of goal.
        DataError: the document is damaged.
    """
    data = read_document(document, source)
    clean_with = _known_domain(data["pddl_domain"])
    if clean_with is None:
        raise _unsupported(source, "its PDDL domain is not one of ALFWorld 0.4")
    if not _known_grammar(data["grammar"]):
        raise _unsupported(source, "its grammar is not one of ALFWorld 0.4")
    objects, facts, goal_text = _read_problem(data["pddl_problem"], source)
    goal = read_goal(goal_text)
    if goal is None:
        raise _unsupported(source, "its goal is not one of the kinds that ALFWorld plays")
    if not any(rtype == "SinkType" for _, rtype in facts.get("receptacleType", ())):
        clean_with = SINK_BASIN
    return Game(
        objects=tuple(objects["object"]),
        receptacles=tuple(objects["receptacle"]),
        locations=tuple(objects["location"]),
        facts=facts,
        goal=goal,
        task=task_text(data["grammar"], source),
        walkthrough=tuple(data.get("walkthrough") or ()),
        clean_with=clean_with,
    )


def read_document(document: str | Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Return the mapping of a game document, with its texts checked to be there.
    Raises `DataError` if it is damaged.
    """
    if isinstance(document, str):
        try:
            document = parse_json(document)
        except ValueError as error:
            raise DataError(f"{source} is not JSON ({error}); copy the game file again.") from error
    if not isinstance(document, Mapping):
        raise DataError(f"{source} holds a {type(document).__name__}, not a JSON object; copy the game file again.")
    for key in _KEYS:
        if not is_text(document.get(key)):
            raise DataError(f"{source} has no text under '{key}'; a game file needs {', '.join(_KEYS)}.")
    walkthrough = document.get("walkthrough") or ()
    if not isinstance(walkthrough, list | tuple) or not all(map(is_text, walkthrough)):
        raise DataError(f"{source} has a 'walkthrough' that is not a list of commands.")
    return document


def task_text(grammar: str, source: str) -> str:
    """Return the text after "Your task is to: " in a grammar. Raises `DataError` if there is no such line."""
    match = _TASK.search(grammar)
    if match is None:
        raise DataError(f'{source} has a grammar without the line "Your task is to: ..."; copy the game file again.')
    try:
        task = str(parse_json(f'"{match[1]}"'))
    except ValueError:
        task = ""
    if not task or not is_text(task):
        raise DataError(f"{source} has a task that is no text of a game; copy the game file again.")
    return task


def game_document(game: Game) -> dict[str, Any]:
    """Return the game as the content of a `game.tw-pddl` file, which the real engine plays, too.

    `parse_game(game_document(game), ...) == game`. Raises `DataError` for a goal that ALFWorld has no clause for.
    """
    try:
        clause = goal_clause(game.goal)
    except KeyError:
        raise DataError("ALFWorld has no clause for a sliced object under a lamp; use another goal.") from None
    domain, grammar = shipped_text("alfred.pddl"), shipped_text("alfred.twl2")
    if "SinkType" in game.clean_with:
        domain = domain.replace(";(receptacleType ?r SinkType)", "(receptacleType ?r SinkType)")
    return {
        "pddl_domain": domain,
        "grammar": grammar.replace(_TEMPLATE_TASK, json.dumps(game.task)[1:-1]),
        "pddl_problem": _problem(game, clause),
        "walkthrough": list(game.walkthrough),
        "solvable": True,
    }


@functools.cache
def shipped_text(name: str) -> str:
    """Return a text file that ships with the package."""
    return (importlib.resources.files("agentgym_rft.envs.alfworld") / "data" / name).read_text(encoding="utf-8")


def _unsupported(source: str, reason: str) -> UnsupportedGameError:
    return UnsupportedGameError(f"The own engine does not know the rules of {source}: {reason}; {_OTHER_BACKEND}.")


def _fingerprint(lines: Iterable[str]) -> str:
    """Return a hash that does not see blank lines, indentation and trailing space."""
    stripped = (line.strip() for line in lines)
    return hashlib.sha256("\n".join(line for line in stripped if line).encode()).hexdigest()


@functools.lru_cache(maxsize=16)
def _known_domain(domain: str) -> tuple[str, ...] | None:
    return _DOMAINS.get(domain_fingerprint(domain))


def domain_fingerprint(domain: str) -> str:
    """Return a hash of the domain that does not see its comments and white space."""
    return _fingerprint(" ".join(re.sub(r";.*", "", domain).split()).replace("( ", "(").replace(" )", ")").split("\n"))


def grammar_fingerprint(grammar: str) -> str:
    """Return a hash of the grammar that does not see its task and white space at the ends of lines."""
    return _grammar_fingerprint(_TASK.sub('"Your task is to: "', grammar))


@functools.lru_cache(maxsize=16)
def _grammar_fingerprint(blanked: str) -> str:
    return _fingerprint(blanked.split("\n"))


def _known_grammar(grammar: str) -> bool:
    return grammar_fingerprint(grammar) in _GRAMMARS


def _read_problem(
    problem: str, source: str
) -> tuple[dict[str, list[str]], dict[str, tuple[tuple[str, ...], ...]], str]:
    """Return instances by type, facts by predicate and the goal clause of a PDDL problem."""
    if ";" in problem:
        problem = re.sub(r";.*", "", problem)
    sections = _SECTIONS.search(problem)
    if sections is None:
        raise DataError(
            f"{source} has a damaged PDDL problem: expected (:objects), (:init) and (:goal), in this order."
        )
    by_type = _typed_names(sections[1], source)
    init = sections[2]
    found: dict[str, list[tuple[str, ...]]] = {}
    count = 0
    for name, first, second in _FACT.findall(init):
        found.setdefault(name, []).append((first, second) if second else (first,))
        count += 1
    if count != init.count("(") or count != init.count(")"):
        raise DataError(f"{source} has a damaged PDDL problem: (:init) holds something that is not a fact.")
    _check_facts(found, {name for names in by_type.values() for name in names}, source)
    otypes = set(by_type["otype"])
    by_type["object"] = [name for name in by_type["object"] if f"{name}Type" not in otypes]
    return by_type, {name: tuple(rows) for name, rows in found.items()}, sections[3]


def _typed_names(text: str, source: str) -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = {t: [] for t in ("agent", "location", "receptacle", "object", "rtype", "otype")}
    words = iter(text.split())
    pending: list[str] = []
    for word in words:
        if word != "-":
            pending.append(word)
            continue
        kind = next(words, "")
        if kind not in by_type:
            raise DataError(f"{source} has a damaged PDDL problem: '{kind}' is not a type of the domain.")
        by_type[kind] += pending
        pending = []
    if pending:
        raise DataError(f"{source} has a damaged PDDL problem: '{pending[0]}' in (:objects) has no type.")
    return by_type


def _check_facts(found: Mapping[str, list[tuple[str, ...]]], known: set[str], source: str) -> None:
    for name, rows in found.items():
        num_arguments = PREDICATES.get(name)
        if num_arguments is None:
            raise _unsupported(source, f"its predicate '{name}' is not one of the domain")
        for row in rows:
            if len(row) != num_arguments or not known.issuperset(row):
                raise DataError(
                    f"{source} has a damaged PDDL problem: ({name} {' '.join(row)}) fits no declared objects."
                )


def _problem(game: Game, clause: str) -> str:
    facts = game.facts
    rtypes = {t for _, t in facts.get("receptacleType", ())} | {t for t, _ in facts.get("canContain", ())}
    otypes = {t for _, t in facts.get("objectType", ())} | {t for _, t in facts.get("canContain", ())}
    goal = game.goal
    lamp = goal.target_type if goal.task_type.value.startswith("look_at") else ""
    otypes |= {f"{goal.object_type}Type", "KnifeType", "ButterKnifeType"} | ({f"{lamp}Type"} if lamp else set())
    rtypes |= {"SinkBasinType", "MicrowaveType", "FridgeType"} | (set() if lamp else {f"{goal.target_type}Type"})
    agents = dict.fromkeys(row[0] for name in ("atLocation", "holds", "holdsAny") for row in facts.get(name, ()))
    declared = [
        *((name, "agent") for name in agents),
        *((name, "otype") for name in sorted(otypes | ({"SinkType"} - rtypes))),
        *((name, "rtype") for name in sorted(rtypes)),
        *((name, "object") for name in game.objects),
        *((name, "receptacle") for name in game.receptacles),
        *((name, "location") for name in game.locations),
    ]
    objects = "".join(f"        {name} - {kind}\n" for name, kind in declared)
    init = "".join(f"        ({name} {' '.join(row)})\n" for name, rows in facts.items() for row in rows)
    return (
        "\n(define (problem household)\n    (:domain alfred)\n"
        f"    (:objects\n{objects}    )\n    (:init\n{init}    )\n    {clause}\n)\n"
    )
