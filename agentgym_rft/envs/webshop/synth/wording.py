"""Puts a plan into words: title, bullets, description and price text of one product."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from agentgym_rft.envs.webshop.synth.draws import Draws
from agentgym_rft.envs.webshop.synth.plans import Plan
from agentgym_rft.envs.webshop.synth.tables import Phrase, phrases, title_case

_NUM_BULLETS = tuple(accumulate((0.08, 0.08, 0.1, 0.14, 0.36, 0.12, 0.06, 0.06)))  # 1, 2, ... 8
_BULLETS = {"": "attribute_bullets", "with": "with_bullets", "for": "for_bullets"}


class Wording:
    """The texts of one product, drawn in the order in which they are asked for."""

    def __init__(self, plan: Plan, draws: Draws) -> None:
        kind = plan.cluster.kind
        self._plan, self._draws = plan, draws
        self._use = draws.one(kind.uses)
        self._code = f"{'ABKMSTXZ'[draws.below(8)]}{draws.below(90) + 10}"
        self._words = {"noun": plan.noun, "brand": plan.brand, "use": self._use, "code": self._code}
        self._words["USE"] = self._use.upper()

    def title(self) -> str:
        """Return brand, attributes, noun, what it is for, a part, a model code; 18 words in the middle, sometimes 5 or
        35.
        """
        draws, plan = self._draws, self._plan
        kind = plan.cluster.kind
        is_short = draws.chance(0.13)
        before = [phrase.text for phrase in plan.in_title if not phrase.link]
        after = [phrase.linked for phrase in plan.in_title if phrase.link]
        words = [plan.brand]
        if draws.chance(0.5):
            words.append(draws.one(phrases()["adjectives"]))
        words += [*before, plan.noun, *after]
        if is_short:
            return title_case(" ".join(words))
        words.append(f"for {self._use}")
        if draws.chance(0.7):
            words.append(f"with {self._part()}")
        if draws.chance(0.5):
            words.append(f"- {kind.query}")
        if draws.chance(0.25):
            words.append(f"{draws.one(phrases()['adjectives'])} {plan.noun} for {draws.one(kind.uses)}")
        if draws.chance(0.1):
            words.append(f"{draws.one(kind.uses)}, {plan.noun} with {self._part()} and {self._part()}")
        words.append(self._code)
        return title_case(" ".join(words)) + self._ending()

    def bullets(self) -> list[str]:
        """Return one to eight lines; the attributes that belong here are each in one of them."""
        draws, plan = self._draws, self._plan
        number = max(1 + draws.weighted(_NUM_BULLETS), len(plan.in_bullets))
        lines = [self._attribute_bullet(phrase) for phrase in plan.in_bullets]
        fillers = draws.some(phrases()["filler_bullets"], number - len(lines))
        lines += [line.format(part=self._part(), **self._words) for line in fillers]
        return draws.some(lines, len(lines))

    def description(self) -> str:
        """Return three to six sentences, or nothing."""
        draws, lines = self._draws, phrases()
        if draws.chance(0.3):
            return ""
        chosen = [draws.one(lines["description_openings"])]
        chosen += draws.some(lines["description_middles"], 2 + draws.below(4))
        chosen += draws.some(lines["description_endings"], 1 + draws.below(2))
        text = " ".join(chosen).format(part=self._part(), **self._words)
        if draws.chance(0.3):
            text += " " + draws.one(lines["description_attributes"]).format(a=self._plan.attributes[-1].text)
        return text

    def pricing(self) -> str:
        """Return `$12.99`, a range, or nothing."""
        place = self._draws.uniform()
        price = self._plan.price
        if place < 0.089:
            return ""
        if place < 0.182:
            return f"${price:,.2f} - ${price * (1.1 + self._draws.uniform()):,.2f}"
        return f"${price:,.2f}"

    def _part(self) -> str:
        return self._draws.one(self._plan.cluster.kind.parts)

    def _ending(self) -> str:
        """Return options, a season or a special character, as sellers put them at the end."""
        draws = self._draws
        place = draws.uniform()
        if place < 0.3 and self._plan.options:
            values = ", ".join(title_case(draws.one(values)) for _, values in self._plan.options)
            return f" ({values})"
        if place < 0.4:
            return f" {draws.one(phrases()['seasons'])}"
        return draws.one(phrases()["marks"]) if place < 0.46 else ""

    def _attribute_bullet(self, phrase: Phrase) -> str:
        others = [other.text for other in self._plan.attributes if other is not phrase]
        line = self._draws.one(phrases()[_BULLETS[phrase.link]])
        second = self._draws.one(others) if others and "{b}" in line else self._use
        return line.format(a=phrase.text, A=_shown(phrase, self._draws), b=second, part=self._part(), **self._words)


def option_entries(options: Sequence[tuple[str, Sequence[str]]], with_null: bool) -> dict[str, object] | str:
    """Return `customization_options` of the items file: by group a list of values, or null; the empty text without
    groups.
    """
    if not options and not with_null:
        return ""
    entries: dict[str, object] = {"Special Size": None} if with_null else {}
    for name, values in options:
        entries[name] = [
            {"is_selected": place == 0, "is_available": True, "value": _raw_value(value), "image": None}
            for place, value in enumerate(values)
        ]
    return entries


def _raw_value(value: str) -> str:
    """As sellers write it: the loader turns the slash into a bar and lowers the capital."""
    return (value[:1].upper() + value[1:]).replace(" | ", "/")


def _shown(phrase: Phrase, draws: Draws) -> str:
    return phrase.text.upper() if draws.chance(0.5) else title_case(phrase.text)
