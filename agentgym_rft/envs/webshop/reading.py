"""Reads what a customer sees: pages in the modes `text` and `text_rich`, and what an instruction asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from agentgym_rft.envs.text_search.analyzer import analyze
from agentgym_rft.envs.webshop.synth.tables import departments, option_tables
from agentgym_rft.errors import DataError

_ASIN = re.compile(r"[A-Z0-9]{10}")
_CAP = re.compile(r",? and price lower than ([\d.]+) dollars$")
_OPTIONS = re.compile(r"(.*) with ([a-z &]+: .*)")
_NEXT_OPTION = re.compile(r", and (?=[a-z &]+: )")
_MARKED = re.compile(r"\[(?:clicked )?button\] (.*) \[(?:clicked )?button_\]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_GROUPS = "size name|flavor|material type|number of items|item shape|special size type|unit count|package quantity"
# Words of requests that no product text answers.
_SMALL_TEXT = """i im i'm am me my a an the and or of in on to for with it that this is are be need needs want wants buy
    find looking look show get give help please thanks thank can could would should you like some any also as which
    comes come price lower than dollars sister mother father brother gift home hi hello purchase interested searching
    search pair i'd id wanted seeking kind color size sized there their them they one from has have by"""
_SMALL_WORDS = frozenset(_SMALL_TEXT.split())


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the search results. `price` is the lower end of a range."""

    asin: str
    title: str
    price: float


@dataclass(frozen=True, slots=True)
class View:
    """A page as read. `kind`: index, results, item, sub or done."""

    kind: str
    instruction: str = ""
    number: int = 0  # of the page of results
    has_next: bool = False
    results: tuple[Result, ...] = ()
    title: str = ""
    price: float = 0.0
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()
    text: str = ""  # of a sub page, in lower case


@dataclass(frozen=True, slots=True)
class Wanted:
    """The wishes in an instruction.

    `names` are words for the thing itself, the one that was used first. `needs` are attributes, to be found letter by
    letter, where the instruction follows the template; else they are the stems of its other content words. `options`
    of the template are (group, value). `search` has the name, then all else that is wanted.
    """

    names: tuple[str, ...]
    needs: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    cap: float
    is_template: bool
    search: str
    text: str  # without the price, in lower case

    def is_named(self, title: str) -> bool:
        """Return whether a title in lower case names the thing; if the name is not a known one, at least half of it."""
        if self.names[0] in _known_names():
            return any(name in title for name in self.names)
        name = set(analyze(self.names[0]))
        return 2 * len(name & set(analyze(title))) >= len(name)

    def missing(self, text: str) -> tuple[str, ...]:
        """Return the needs that a text in lower case does not meet."""
        if self.is_template:
            return tuple(need for need in self.needs if need not in text)
        stems = set(analyze(text))
        return tuple(need for need in self.needs if need not in stems)


def read_view(observation: str) -> View:
    """Return the page of an observation in mode `text` or `text_rich`. Raises `DataError` for anything else."""
    parts, is_marked = _parts(observation)
    if parts[0] == "WebShop":
        return View("index", instruction=parts[2])
    if parts[0].startswith("Thank you for shopping"):
        return View("done")
    if parts[0] != "Instruction:" or len(parts) < 4:
        raise DataError(f"No page of the shop in '{observation[:80]}'; expected observation_mode text or text_rich.")
    instruction, rest = parts[1], parts[3:]
    if rest[0].startswith("Page "):
        return _read_results(instruction, rest)
    price_at = next((at for at, part in enumerate(rest) if part.startswith("Price: $")), 0)
    if not price_at:
        return View("sub", instruction, text=" ".join(rest[1:]).lower())
    return View(
        "item",
        instruction,
        title=rest[price_at - 1],
        price=_price(rest[price_at]),
        options=_read_options(rest[1 : price_at - 1], is_marked[4 : price_at + 2] if any(is_marked) else None),
    )


def read_instruction(text: str) -> Wanted:
    """Read an instruction, by the template `Find me ... with color: blue, and price ...` or in free words."""
    cap_match = _CAP.search(text)
    cap = float(cap_match[1]) if cap_match else float("inf")
    body = text[: cap_match.start()] if cap_match else text
    if not body.startswith("Find me "):
        return _read_free(body, cap)
    option_match = _OPTIONS.fullmatch(body)
    options: tuple[tuple[str, str], ...] = ()
    if option_match:
        body = option_match[1]
        pairs = (pair.partition(": ") for pair in _NEXT_OPTION.split(option_match[2]))
        options = tuple((group, value) for group, _, value in pairs)
    query, needs = _read_request(body.removeprefix("Find me "))
    search = " ".join((query, *needs, *(value for _, value in options)))
    return Wanted(_known_names().get(query, (query,)), needs, options, cap, True, search, text.lower())


def _parts(observation: str) -> tuple[list[str], list[bool]]:
    """Return the pieces of a page, and which of them `text_rich` marks as buttons, indexes as in the pieces."""
    if "[button]" not in observation and "[clicked button]" not in observation:
        return [part.strip() for part in observation.split(" [SEP] ")], []
    parts, marks = [], []
    for line in observation.split("\n"):
        if not line.strip() or line.startswith("You have clicked "):
            continue
        match = _MARKED.search(line)
        parts.append((match[1] if match else line).strip())
        marks.append(match is not None)
    return parts, marks


def _read_results(instruction: str, rest: list[str]) -> View:
    results: list[Result] = []
    for at in range(1, len(rest) - 1):
        if _ASIN.fullmatch(rest[at]) and not rest[at + 1].startswith("$"):
            price = rest[at + 2] if at + 2 < len(rest) else ""
            results.append(Result(rest[at], rest[at + 1], _price(price)))
    return View("results", instruction, int(_price(rest[0])), "Next >" in rest[1:3], tuple(results))


def _read_options(parts: list[str], marks: list[bool] | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the option groups.
    Mode `text` does not mark which pieces are names, so the usual names of groups are known.
    """
    names = _group_names()
    groups: list[tuple[str, list[str]]] = []
    for at, part in enumerate(parts):
        is_name = part in names if marks is None else not marks[at]
        if is_name or not groups:
            groups.append((part, []))
        else:
            groups[-1][1].append(part)
    return tuple((name, tuple(values)) for name, values in groups)


@lru_cache(maxsize=1)
def _group_names() -> frozenset[str]:
    return frozenset((*(table.name.lower() for table in option_tables().values()), *_GROUPS.split("|")))


@lru_cache(maxsize=1)
def _known_names() -> Mapping[str, tuple[str, ...]]:
    """Return what a customer knows of the language: a `hair mask` and a `mask brush` are found among `hair masks`."""
    kinds = [kind for kinds in departments()[0] for kind in kinds]
    names = {name: (name,) for kind in kinds for name in (kind.other, kind.noun)}
    return names | {kind.query: (kind.query, kind.noun, kind.other) for kind in kinds}


def _price(text: str) -> float:
    match = _NUMBER.search(text)
    return float(match[0]) if match else 0.0


def _read_request(text: str) -> tuple[str, tuple[str, ...]]:
    """Return query and attributes of `easy carry, bpa free bottles with rose gold for travel use`."""
    linked: list[str] = []
    for link in (" for ", " with "):
        text, _, after = text.partition(link)
        linked = [*after.split(", "), *linked] if after else linked
    *plain, last = text.split(", ")
    query = last
    words = last.split(" ")
    known = next((at for at in range(len(words)) if " ".join(words[at:]) in _known_names()), None)
    start = known if known is not None else 2 if len(words) > 2 else 0
    if start:
        plain.append(" ".join(words[:start]))
        query = " ".join(words[start:])
    return query, (*plain, *linked)


def _read_free(text: str, cap: float) -> Wanted:
    """Return a request in free words: the longest known name in it, if any, and the words that are left."""
    text = text.lower()
    name = max((name for name in _known_names() if name in text), key=len, default="")
    words = [word.strip(".,;:!?()'\"") for word in text.replace(name, " ", 1).replace("-", " ").split()]
    content = [word for word in dict.fromkeys(words) if word and word not in _SMALL_WORDS]
    needs = tuple(dict.fromkeys(stem for word in content for stem in analyze(word)))
    search = " ".join((name, *content)).strip()
    return Wanted(_known_names().get(name, (search,)), needs, (), cap, False, search, text)
