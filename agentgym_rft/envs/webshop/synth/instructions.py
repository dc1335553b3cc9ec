"""Synthetic instructions: some by the original's template, some in the style of people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from agentgym_rft.envs.webshop.synth.draws import Draws
from agentgym_rft.envs.webshop.synth.plans import Plan
from agentgym_rft.envs.webshop.synth.tables import Phrase, phrases, reworded

ASKED = 1 / 3  # share of products that people have asked for
_NUM_LISTED = tuple(accumulate((0.42, 0.36, 0.14, 0.08)))  # attributes in the file of a product without instruction
_UNLISTED = 0.316  # of those without instruction, the share that the file lists nothing for
_NUM_ASKED = tuple(accumulate((0.35, 0.45, 0.2)))  # attributes in an instruction in the style of people
_TYPOS = 0.05


def synthetic(plan: Plan, draws: Draws) -> dict[str, Any]:
    """Return the entry of the attributes file: `attributes`, and for some `instruction` and
    `instruction_attributes`.
    """
    listed = draws.some(plan.attributes, len(plan.attributes))
    if not plan.num_named:
        number = 0 if draws.chance(_UNLISTED) else 1 + draws.weighted(_NUM_LISTED)
        return {"attributes": [phrase.text for phrase in listed[:number]]}
    others = draws.some(plan.attributes[1:], plan.num_named - 1)
    named = sorted([plan.attributes[0], *others], key=lambda phrase: ("", "with", "for").index(phrase.link))
    return {
        "attributes": [phrase.text for phrase in listed],
        "instruction": f"Find me {_noun_phrase(plan.cluster.kind.query, named)}",
        "instruction_attributes": [phrase.text for phrase in named],
    }


def human(plan: Plan, draws: Draws) -> list[dict[str, Any]]:
    """Return the entries of the file of human instructions: none for most products, else one or two."""
    if not draws.chance(ASKED):
        return []
    return [_human_entry(plan, draws) for _ in range(1 + draws.chance(0.2))]


def _noun_phrase(noun: str, named: Sequence[Phrase]) -> str:
    """Return `easy carry, bpa free bottles with rose gold for travel use`."""
    text = ", ".join(phrase.text for phrase in named if not phrase.link)
    text = f"{text} {noun}".strip()
    for link in ("with", "for"):
        linked = [phrase.text for phrase in named if phrase.link == link]
        if linked:
            text += f" {link} {', '.join(linked)}"
    return text


def _human_entry(plan: Plan, draws: Draws) -> dict[str, Any]:
    others = draws.some(plan.attributes[1:], draws.weighted(_NUM_ASKED))
    named = [plan.attributes[0], *others]
    chosen = [(name.lower(), draws.one(values)) for name, values in plan.options]
    wanted = [value for _, value in chosen if draws.chance(0.8)]
    return {
        "asin": plan.asin,
        "instruction": _human_text(plan, draws, named, wanted),
        "attributes": [phrase.text for phrase in plan.attributes],
        "options": [f"{name}: {value}" for name, value in chosen] or [""],
        "instruction_attributes": [phrase.text for phrase in named],
        "instruction_options": wanted,
        "assignment_id": f"S{draws.below(10**9):09d}",
        "worker_id": f"W{draws.below(500):03d}",
    }


def _human_text(plan: Plan, draws: Draws, named: Sequence[Phrase], wanted: Sequence[str]) -> str:
    lines = phrases()
    noun = plan.noun if draws.chance(0.7) else plan.cluster.kind.query
    said = [Phrase(_reworded(phrase.text, draws), phrase.link) for phrase in named]
    text = _noun_phrase(noun, said).replace(",", " and" if draws.chance(0.4) else ",")
    if wanted:
        shape = draws.one(lines["human_options"])
        options = " and ".join(wanted) if draws.chance(0.5) else ", ".join(wanted)
        text = shape.format(noun=text, options=options)
    if noun is plan.noun and draws.chance(0.6):
        text = f"a {text}"
    text = f"{_typo(draws.one(lines['human_openings']), draws)} {text}{draws.one(lines['human_endings'])}"
    return text + ("." if draws.chance(0.3) else "")


def _reworded(text: str, draws: Draws) -> str:
    """Return an attribute as people write it: `easy to clean`, `gluten-free`, `machine washable`."""
    if not draws.chance(0.6):
        return _typo(text, draws)
    first, _, last = text.partition(" ")
    if text in reworded():
        return reworded()[text]
    if first == "easy":
        return f"easy to {last}"
    return f"{first}-free" if last == "free" else text


def _typo(text: str, draws: Draws) -> str:
    """Return two letters swapped, now and then."""
    if not draws.chance(_TYPOS):
        return text
    place = 1 + draws.below(len(text) - 2)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
