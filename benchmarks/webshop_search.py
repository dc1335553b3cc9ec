"""How equal WebShop's search and nouns are to the original's, on recorded episodes of the original.

    python benchmarks/webshop_search.py --data DIR [--queries 300]

`--data` holds the original's 1,000 products (`items_shuffle_1000.json`) and episodes recorded with its Lucene index
(`traces_*.jsonl.xz`: one episode a line, with `goal` and `steps` of `url`, `available`, `verbose_info`). Every recorded
page of results is compared with ours. Then all backends that are installed are compared with the own index, which
stands for the original's, on the recorded queries, the products' own queries, and their titles. Last, the type factor
of the reward with each installed noun tagger is compared with the recorded one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import lzma
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from agentgym_rft.envs.text_search.index import Search, SearchIndex
from agentgym_rft.envs.webshop.nouns import NounTagger, SpacyNouns, lexicon_nouns
from agentgym_rft.envs.webshop.products import Product, clean_product, search_document
from agentgym_rft.envs.webshop.reward import title_score, type_factor

PAGE = 10
SPACY_MODELS = ("en_core_web_sm", "en_core_web_lg")
_RESULTS = re.compile(r"http://[^/]+/search_results/[^/]+/(.*)/(\d+)", re.DOTALL)
_DONE = re.compile(r"http://[^/]+/done/[^/]+/([^/]+)/")
_BUTTONS = {"back to search", "< prev", "next >"}


def read_steps(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(goal, step) of all recorded episodes."""
    for path in sorted(folder.glob("traces_*.jsonl.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                episode = json.loads(line)
                yield from ((episode["goal"], step) for step in episode["steps"])


def read_products(folder: Path) -> list[Product]:
    raw = json.loads((folder / "items_shuffle_1000.json").read_text(encoding="utf-8"))
    return [clean_product(entry, ()) for entry in raw]


def recorded_pages(folder: Path) -> dict[tuple[str, int], list[str]]:
    """(query, page) -> asins."""
    pages = {}
    for _, step in read_steps(folder):
        found = _RESULTS.fullmatch(step["url"])
        if found is not None:
            hits = [label.upper() for label in step["available"]["clickables"] if label not in _BUTTONS]
            pages[found[1].replace("+", " "), int(found[2])] = hits
    return pages


def print_overlap(name: str, index: Search, own: SearchIndex, queries: Sequence[str]) -> None:
    """How much of the own first page and of its 50 hits a backend has, and how often it has the same page or top."""
    shares, first_pages, same_page, same_top = [], [], [], []
    for query in queries:
        expected, found = own.top(query), index.top(query)
        if not expected:
            continue
        shares.append(len(set(expected) & set(found)) / len(expected))
        first_pages.append(len(set(expected[:PAGE]) & set(found[:PAGE])) / len(expected[:PAGE]))
        same_page.append(expected[:PAGE] == found[:PAGE])
        same_top.append(expected[:1] == found[:1])
    figures = (np.mean(first_pages), np.mean(shares), np.mean(same_top), np.mean(same_page))
    print(f"{name:28} {len(shares):8,} " + " ".join(f"{figure:13.3f}" for figure in figures))


def taggers() -> dict[str, NounTagger]:
    found: dict[str, NounTagger] = {"lexicon": lexicon_nouns()}
    found |= {model: SpacyNouns(model) for model in SPACY_MODELS if importlib.util.find_spec(model) is not None}
    return found


def print_agreement(name: str, tagger: NounTagger, folder: Path, titles: dict[str, str]) -> None:
    """How many recorded purchases have the same type factor, apart for those of the product that was asked for."""
    same: dict[bool, list[bool]] = {True: [], False: []}
    for goal, step in read_steps(folder):
        verbose, found = step.get("verbose_info"), _DONE.match(step["url"])
        if verbose and found is not None:
            score = title_score(tagger.nouns(titles[found[1]]), tagger.nouns(goal["name"]))
            factor = type_factor(verbose["query_match"] or verbose["category_match"], score)
            same[found[1] == goal["asin"]].append(factor == verbose["r_type"])
    asked, others = same[True], same[False]
    print(f"{name:28} {sum(asked):4} of {len(asked):4} {sum(others):12} of {len(others):4}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with products and recorded episodes")
    parser.add_argument("--queries", type=int, default=300, help="titles that are searched for")
    arguments = parser.parse_args()
    products = read_products(arguments.data)
    ids, documents = [product.asin for product in products], [search_document(product) for product in products]
    own, pages = SearchIndex.build(documents, ids), recorded_pages(arguments.data)
    num_equal = sum(
        [ids[row] for row in own.top(query)][PAGE * (page - 1) : PAGE * page] == hits
        for (query, page), hits in pages.items()
    )
    print(f"{describe()}\n\nrecorded pages equal: {num_equal} of {len(pages)}\n")
    print(f"{'compared with the own index':28} {'queries':>8} {'overlap@10':>13} {'overlap@50':>13} ", end="")
    print(f"{'same top':>13} {'same page':>13}")
    asked = {
        "recorded queries": sorted({query for query, _ in pages}),
        "queries of products": sorted({product.query for product in products}),
        "titles": [product.title for product in products[: arguments.queries]],
    }
    if importlib.util.find_spec("tantivy") is not None:
        from agentgym_rft.envs.text_search.tantivy_index import TantivyIndex

        index = TantivyIndex.build(documents, ids)
        for kind, queries in asked.items():
            print_overlap(f"tantivy, {kind}", index, own, queries)
    print(f"\n{'type factor as recorded':28} {'same product':>12} {'another product':>20}")
    titles = {product.asin: product.title for product in products}
    for name, tagger in taggers().items():
        print_agreement(name, tagger, arguments.data, titles)


if __name__ == "__main__":
    main()
