"""Statistics of the synthetic catalogue of WebShop beside those of the real small set, and how well goals are found.

    python benchmarks/webshop_catalogue.py [--products 1000] [--seed 0] [--goals 2500]

Prints two Markdown tables: the statistics of the products, and the share of goals whose product is among the 50 hits of
the query, of the query with the attributes, of the instruction, and of any of the three. At most `--goals` goals are
searched, a random sample of all kinds. It also times the making of the products.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

from machine import describe

from agentgym_rft.envs.webshop.catalog import CatalogOptions, open_catalog
from agentgym_rft.envs.webshop.goal_list import GoalRules, Goals
from agentgym_rft.envs.webshop.goals import HUMAN, TEMPLATE, Pricing
from agentgym_rft.envs.webshop.synth import SyntheticStore, raw_instructions, raw_product


def deciles(values: Sequence[float], *shares: int) -> str:
    """The values at 10 %, 50 %, ... of the sorted list."""
    ordered = sorted(values)
    return ", ".join(f"{ordered[len(ordered) * share // 100]:.0f}" for share in shares)


def statistics(products: Sequence[dict[str, Any]], files: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Rows of name, real value, value here. The real ones are those of the released `items_shuffle_1000.json`."""
    per_cent = 100 / len(products)
    texts = [len(raw["full_description"]) for raw in products if raw["full_description"]]
    bullets = [raw["small_description"] for raw in products if isinstance(raw["small_description"], list)]
    groups = [[rows for rows in (raw["customization_options"] or {}).values() if rows] for raw in products]
    sizes = Counter(map(len, groups))
    pricing = [raw["pricing"] for raw in products]
    prices = [float(text.split(" ")[0][1:].replace(",", "")) for text in pricing if text]
    asked = [entry["instruction_attributes"] for entry in files if "instruction" in entry]
    listed = [len(entry["attributes"]) for entry in files]
    return [
        (
            "words in a title (10 %, 50 %, 90 %)",
            "8, 18, 29",
            deciles([len(r["name"].split()) for r in products], 10, 50, 90),
        ),
        ("characters in a description, where there is one", "307", f"{median(texts):.0f}"),
        ("without description", "30 %", f"{per_cent * (len(products) - len(texts)):.0f} %"),
        (
            "bullets (mean), characters in one (median)",
            "4.6, 125",
            f"{mean(map(len, bullets)):.1f}, {median(len(line) for lines in bullets for line in lines):.0f}",
        ),
        (
            "products with 0, 1, 2, 3 option groups",
            "57.7, 24.5, 16.5, 1.3 %",
            ", ".join(f"{per_cent * sizes[number]:.1f}" for number in range(4)) + " %",
        ),
        ("values in a group (50 %, 90 %)", "4, 10", deciles([len(rows) for group in groups for rows in group], 50, 90)),
        ("price (10 %, 50 %, 90 %), dollars", "9, 29.5, 200", deciles(prices, 10, 50, 90)),
        (
            "price ranges, missing prices",
            "9.3, 8.9 %",
            f"{per_cent * sum('-' in text for text in pricing):.1f}, {per_cent * pricing.count(''):.1f} %",
        ),
        (
            "attributes (median), products without",
            "2, 18.5 %",
            f"{median(listed):.0f}, {per_cent * listed.count(0):.1f} %",
        ),
        (
            "products with a template instruction, its attributes (mean)",
            "41.5 %, 3.2",
            f"{per_cent * len(asked):.1f} %, {mean(map(len, asked)):.1f}",
        ),
        ("different queries", "246", str(len({raw["query"] for raw in products}))),
    ]


def found(num_products: int, seed: int, num_goals: int) -> tuple[int, list[float]]:
    """The number of goals that were searched, and the shares found by the three searches and by any of them."""
    catalog = open_catalog(CatalogOptions(num_products=num_products, seed=seed))
    goals = Goals(catalog.store, catalog.table, GoalRules((TEMPLATE, HUMAN), None, Pricing(seed)))
    chosen = random.Random(0).sample(range(len(goals)), min(len(goals), num_goals))
    counts = [0] * 4
    for goal in (goals[index] for index in chosen):
        row = catalog.store.row_of(goal.asin)
        searches = (goal.query, f"{goal.query} {' '.join(goal.attributes)}", goal.instruction)
        hits = [row in catalog.find(text.lower().split(" ")) for text in searches]
        counts = [count + hit for count, hit in zip(counts, [*hits, any(hits)], strict=True)]
    return len(chosen), [count / len(chosen) for count in counts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--goals", type=int, default=2500)
    args = parser.parse_args()
    store = SyntheticStore(args.products, args.seed)
    start = time.perf_counter()
    for row in range(len(store)):
        store[row]
    seconds = time.perf_counter() - start
    print(f"{describe()}; {1000 * seconds / len(store):.2f} ms to make a product\n")
    rows = range(len(store))
    products = [raw_product(args.seed, row) for row in rows]
    files = [raw_instructions(args.seed, row) for row in rows]
    print("| | real | synthetic |\n|---|---|---|")
    for name, real, value in statistics(products, files):
        print(f"| {name} | {real} | {value} |")
    number, shares = found(args.products, args.seed, args.goals)
    print("\n| goals | query | query and attributes | instruction | any |\n|---|---|---|---|---|")
    print(f"| {number} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")


if __name__ == "__main__":
    main()
