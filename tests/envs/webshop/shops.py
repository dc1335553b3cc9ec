"""Small shops for tests, and the real products beside the repository, where they are."""

from __future__ import annotations

import functools
import json
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentgym_rft.envs.webshop.catalog import Catalog, build_catalog
from agentgym_rft.envs.webshop.goal_list import GoalRules, Goals
from agentgym_rft.envs.webshop.goals import HUMAN, TEMPLATE, Wishes, read_humans, read_template
from agentgym_rft.envs.webshop.products import Product, clean_product
from agentgym_rft.envs.webshop.session import Session, Shop

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "webshop_real"
needs_real_products = pytest.mark.skipif(not FOLDER.is_dir(), reason="the real WebShop products are not here")


def raw(asin: str, name: str, **changes: Any) -> dict[str, Any]:
    """An entry of the items file."""
    entry = {
        "asin": asin,
        "name": name,
        "full_description": "",
        "small_description": ["Easy to clean", "BPA free "],
        "pricing": "$19.99",
        "images": ["x.jpg"],
        "product_category": "Home & Kitchen › Dining › Mugs",
        "category": "garden",
        "query": " Mugs",
        "customization_options": "",
    }
    return {**entry, **changes}


def choices(**groups: Sequence[str]) -> dict[str, Any]:
    """`customization_options` of an entry."""
    return {group: [{"value": value} for value in values] for group, values in groups.items()}


RED_MUG = raw(
    "B000000001", "Harbor Coffee Mug", customization_options=choices(Size=["S", "X/L"], Color=["Red", "Blue"])
)
BLUE_MUG = raw("B000000002", "Harbor Coffee Mug Blue", pricing="$10.00 - $20.00", full_description="A blue mug.")
SHOE = raw(
    "B000000003",
    "Running Shoe",
    query="shoes",
    product_category="Clothing › Shoes › Running",
    category="fashion",
    pricing="$1,200.00",
)
INSTRUCTIONS: dict[str, Any] = {
    "B000000001": {
        "attributes": ["easy clean", "bpa free"],
        "instruction": "Find me easy clean mugs",
        "instruction_attributes": ["easy clean"],
    },
    "B000000002": {"attributes": ["easy clean"]},
    "B000000003": {
        "attributes": ["non slip"],
        "instruction": "Find me non slip shoes",
        "instruction_attributes": ["non slip"],
    },
}
HUMANS: dict[str, Any] = {
    "B000000002": [
        {
            "instruction": "a blue mug.",
            "instruction_attributes": ["easy clean"],
            "instruction_options": ["blue"],
        },
        {"instruction": "a mug", "instruction_attributes": [], "instruction_options": []},
    ]
}


class ListStore:
    """Products and wishes in a list."""

    def __init__(self, rows: Sequence[tuple[Product, Wishes]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Product:
        return self._rows[row][0]

    def wishes(self, row: int) -> Wishes:
        return self._rows[row][1]

    def row_of(self, asin: str) -> int:
        return {product.asin: row for row, (product, _) in enumerate(self._rows)}[asin]


def store(
    items: Sequence[Mapping[str, Any]] = (RED_MUG, BLUE_MUG, SHOE),
    instructions: Mapping[str, Any] = INSTRUCTIONS,
    humans: Mapping[str, Any] = HUMANS,
) -> ListStore:
    """A store of raw entries with their wishes."""
    rows = []
    for item in items:
        asin = item["asin"]
        entry = instructions.get(asin, {})
        wishes = Wishes(read_template(entry, asin), read_humans(humans.get(asin, []), asin))
        rows.append((clean_product(item, entry.get("attributes", ["DUMMY_ATTR"])), wishes))
    return ListStore(rows)


def catalog(items: Sequence[Mapping[str, Any]] = (RED_MUG, BLUE_MUG, SHOE)) -> Catalog:
    return build_catalog("test", store(items))


def mugs_with_goals(number: int) -> Catalog:
    """Products of many queries, each of which one template goal asks for."""
    items = [raw(f"B{index:09d}", f"Mug {index}", query=f"kind {index // 3}") for index in range(number)]
    instructions = {item["asin"]: {"instruction": "a mug", "instruction_attributes": ["clean"]} for item in items}
    return build_catalog("test", store(items, instructions, {}))


def goals(shop_catalog: Catalog, **rules: Any) -> Goals:
    return Goals(shop_catalog.store, shop_catalog.table, GoalRules(**{"kinds": (TEMPLATE, HUMAN), **rules}))


def session(**switches: Any) -> Session:
    """A session in the shop of three products; the goal is a red mug in size s."""
    shop_catalog = catalog()
    goal = goals(shop_catalog)[0]
    return Session(Shop(shop_catalog, **switches), goal, "0")


def many_mugs(number: int) -> list[dict[str, Any]]:
    """Entries that all answer the search `mug`."""
    return [raw(f"B{index:09d}", f"Mug Number {index}") for index in range(number)]


def write_files(folder: Path, items: Any = (RED_MUG, BLUE_MUG, SHOE), human_name: str = "items_human_ins.json") -> Path:
    """The three original files, small set."""
    (folder / "items_shuffle_1000.json").write_text(json.dumps(list(items)))
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(INSTRUCTIONS))
    (folder / human_name).write_text(json.dumps(HUMANS))
    return folder


@functools.cache
def episodes() -> list[dict[str, Any]]:
    """The recorded episodes of the original."""
    found = []
    for name in ("traces_text.jsonl.xz", "traces_text_rich.jsonl.xz"):
        with lzma.open(FOLDER / name, "rt") as lines:
            found += [json.loads(line) for line in lines]
    return found
