"""The entries of the three original files for product i, each a pure function of (seed, i)."""

from __future__ import annotations

from typing import Any

from agentgym_rft.envs.webshop.synth import instructions
from agentgym_rft.envs.webshop.synth.clusters import find_cluster
from agentgym_rft.envs.webshop.synth.draws import Draws
from agentgym_rft.envs.webshop.synth.plans import plan_of
from agentgym_rft.envs.webshop.synth.wording import Wording, option_entries

_IMAGE = "placeholder.jpg"


def raw_product(seed: int, i: int) -> dict[str, Any]:
    """Return the entry of the items file (`items_shuffle.json`) for product i."""
    plan, draws = plan_of(seed, i), Draws(seed, "wording", i)
    wording = Wording(plan, draws)
    bullets: list[str] | str = wording.bullets()
    if draws.chance(0.03):
        bullets = " ".join(bullets)
    kind = plan.cluster.kind
    return {
        "name": wording.title(),
        "full_description": wording.description(),
        "pricing": wording.pricing(),
        "images": [_IMAGE],
        "product_category": kind.product_category,
        "average_rating": "",
        "small_description": bullets,
        "customization_options": option_entries(plan.options, with_null=draws.chance(0.03)),
        "asin": plan.asin,
        "category": kind.category,
        "query": kind.query,
        "page": 1 + i % 50,
    }


def raw_instructions(seed: int, i: int) -> dict[str, Any]:
    """Return the entry of the attributes file (`items_ins_v2.json`) for product i.

    It holds `attributes`, and for 41.5 % of the products `instruction` and `instruction_attributes`.
    """
    return instructions.synthetic(plan_of(seed, i), Draws(seed, "instruction", i))


def raw_human(seed: int, i: int) -> list[dict[str, Any]]:
    """Return the entries of the file of human instructions (`items_human_ins.json`) for product i: none, one or two."""
    return instructions.human(plan_of(seed, i), Draws(seed, "human", i))


def cluster_of(seed: int, i: int) -> str:
    """Return the name of the cluster of siblings that product i belongs to."""
    return find_cluster(seed, i).name
