"""The search of the original shop, page by page."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path

import pytest

from agentgym_rft.envs.text_search.index import SearchIndex
from agentgym_rft.envs.webshop.products import clean_product, search_document

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "webshop_real"


def recorded_pages() -> dict[tuple[str, int], list[str]]:
    """(query, page number) -> the asins that the original showed."""
    pages: dict[tuple[str, int], list[str]] = {}
    for name in ("traces_text.jsonl.xz", "traces_text_rich.jsonl.xz"):
        with lzma.open(REAL / name, "rt", encoding="utf-8") as lines:
            steps = [step for line in lines for step in json.loads(line)["steps"]]
        for step in steps:
            found = re.fullmatch(r"http://127\.0\.0\.1:3000/search_results/[^/]+/(.*)/(\d+)", step["url"], re.DOTALL)
            if found is not None:
                labels = step["available"]["clickables"]
                hits = [label.upper() for label in labels if label not in ("back to search", "< prev", "next >")]
                pages[found[1].replace("+", " "), int(found[2])] = hits
    return pages


@pytest.mark.skipif(not (REAL / "traces_text.jsonl.xz").exists(), reason="needs the recorded episodes")
def test_every_recorded_page_of_the_original_is_equal() -> None:
    raw = json.loads((REAL / "items_shuffle_1000.json").read_text(encoding="utf-8"))
    products = [clean_product(entry, ()) for entry in raw]
    ids = [product.asin for product in products]
    index = SearchIndex.build(map(search_document, products), ids)
    pages = recorded_pages()
    differing = [
        (query, page)
        for (query, page), hits in pages.items()
        if [ids[row] for row in index.top(query)][10 * page - 10 : 10 * page] != hits
    ]
    assert len(pages) > 200
    assert differing == []
