"""The reward of a purchase, exactly as the original computes it, and a stricter rule for options.

Source: Yao et al. 2022, arXiv 2207.01206, section 3.2, and the released code, which differs from the paper in details.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rapidfuzz import fuzz, utils

from agentgym_rft.envs.webshop.goals import Goal, Option
from agentgym_rft.envs.webshop.products import Product

_COLOR_WORDS = """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy
    camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral
    cranberry cream crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass
    gray green grey heather indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon
    mauve merlot midnight mint mocha multicolor mushroom mustard natural navy nude olive orange peach pewter
    pink plum purple rainbow red rose royal rust sand sapphire seashell silver skull slate steel stone
    stonewash sunflower tan taupe teal tiger turquoise violet walnut wheat white wine yellow
"""
COLORS = tuple(_COLOR_WORDS.split())
_THRESHOLD = 85
_MIN_SHARED_CATEGORIES = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """A purchase judged. `reward` is in [0, 1]; the parts are those of the original's verbose info."""

    reward: float
    r_type: float
    title_score: float
    query_match: bool
    category_match: bool
    r_att: float
    r_option: float | None  # None where the goal names no option
    r_price: bool
    weight: float  # of the price; attributes and options weigh as much, each

    def verbose(self, goal: Goal) -> dict[str, Any]:
        """Return the original's `verbose_info`."""
        info: dict[str, Any] = {
            "r_type": self.r_type,
            "r_att": self.r_att,
            "w_att": len(goal.attributes) / _num_parts(goal),
            "query_match": self.query_match,
            "category_match": self.category_match,
            "title_score": self.title_score,
        }
        if self.r_option is not None:
            info |= {"r_option": self.r_option, "w_option": len(goal.options) / _num_parts(goal)}
        return info | {"r_price": self.r_price, "w_price": self.weight}


def judge(
    goal: Goal,
    product: Product,
    price: float,
    chosen: Mapping[str, str],
    nouns: Callable[[str], Sequence[str]],
    *,
    is_strict: bool = False,
) -> Verdict:
    """Return the verdict on buying `product` for a goal.

    Args:
        price: what the product costs; options do not change it.
        chosen: value by option group.
        nouns: gives the nouns of a title, lower-cased, repeated ones kept.
        is_strict: an option counts only if exactly its value was chosen, in its group where the goal names one.
    """
    query_match = product.query == goal.query
    shared = categories(product.product_category) & categories(goal.product_category)
    category_match = len(shared) >= _MIN_SHARED_CATEGORIES
    score = title_score(nouns(product.title), nouns(goal.title))
    r_type = type_factor(query_match or category_match, score)
    num_attributes = sum(has_attribute(product, attribute) for attribute in goal.attributes)
    count = count_exact_options if is_strict else count_options
    num_options = count(goal.options, chosen)
    r_price = price <= goal.price_upper
    parts = _num_parts(goal)
    return Verdict(
        reward=(num_attributes + num_options + r_price) / parts * r_type,
        r_type=r_type,
        title_score=score,
        query_match=query_match,
        category_match=category_match,
        r_att=num_attributes / len(goal.attributes),
        r_option=num_options / len(goal.options) if goal.options else None,
        r_price=r_price,
        weight=1 / parts,
    )


def title_score(bought: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the share of wanted nouns that were bought: sets above, a list with repetitions below; 0.2 if none is
    wanted.
    """
    return len(set(bought) & set(wanted)) / len(wanted) if wanted else 0.2


def type_factor(is_match: bool, score: float) -> float:
    """Return the factor of the reward for the kind of product. A title score under 0.1 overrides any match."""
    if score == 0.0:
        return 0.0
    if score < 0.1:
        return 0.1
    return 1.0 if is_match or score > 0.2 else 0.5


@lru_cache(maxsize=4096)
def categories(path: str) -> frozenset[str]:
    """Return the levels of a category path such as `Beauty › Hair Care › Shampoos`, without their order."""
    return frozenset(level.strip() for level in path.split("›"))


def has_attribute(product: Product, attribute: str) -> bool:
    """Return True if an attribute of the product is like the wanted one, or its texts hold the wanted one."""
    return any(is_similar(own, attribute) for own in product.attributes) or (
        attribute in product.title.lower()
        or attribute in " ".join(product.bullets).lower()
        or attribute in product.description.lower()
    )


def count_options(wanted: Sequence[Option], chosen: Mapping[str, str]) -> int:
    """Return the number of wanted options that are like any chosen value, whatever its group."""
    values = [normal_color(value) for value in chosen.values()]
    return sum(any(is_similar(value, option) for value in values) for option in map(_option_text, wanted))


def count_exact_options(wanted: Sequence[Option], chosen: Mapping[str, str]) -> int:
    """Return the number of wanted options that were chosen exactly, in their group where one is named."""
    values = {value.strip().lower() for value in chosen.values()}
    return sum(
        chosen.get(option[0]) == option[1] if isinstance(option, tuple) else option.strip().lower() in values
        for option in wanted
    )


def normal_color(text: str) -> str:
    """Return the first known colour, by alphabet, that the text holds; else the text: `dark blue` is `blue`."""
    return next((color for color in COLORS if color in text), text)


def _option_text(option: Option) -> str:
    """Return the text by which a wanted option is compared.

    For a (group, value) pair the original looks for a colour that *equals* one of the two, and else compares the
    printed pair.
    """
    if isinstance(option, str):
        return normal_color(option)
    return next((color for color in COLORS if color in option), str(option))


@lru_cache(maxsize=65536)
def is_similar(left: str, right: str) -> bool:
    """Return True if the token set ratio of thefuzz 0.22 is over 85; 100 where one's words are all in the other."""
    return round(fuzz.token_set_ratio(_plain(left), _plain(right))) > _THRESHOLD


def _plain(text: str) -> str:
    return utils.default_process(text.encode("ascii", "ignore").decode())


def _num_parts(goal: Goal) -> int:
    return len(goal.attributes) + len(goal.options) + 1
