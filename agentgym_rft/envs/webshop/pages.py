"""The pages of the shop as lists of nodes, and the four ways to show them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from html import escape
from typing import NamedTuple

from agentgym_rft.envs.webshop.products import Product

MODES = ("text", "text_rich", "url", "html")
SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
_BLANKS = " \t\n\f\r"


class Look(Enum):
    """The kind of a node."""

    TEXT = 0
    BUTTON = 1
    LINK = 2  # to a product
    OPTION = 3


class Node(NamedTuple):
    """A piece of text of a page. `group` is the option group of an OPTION."""

    look: Look
    text: str
    group: str = ""


class Hits(NamedTuple):
    """One page of search results. `has_next` is always true in the original, past the end too."""

    number: int
    total: int
    products: Sequence[Product]
    has_next: bool


def index_page(instruction: str) -> list[Node]:
    """Return the page with the search bar."""
    return [_text("WebShop"), _text("Instruction: "), _text(instruction), _button("Search")]


def results_page(instruction: str, hits: Hits) -> list[Node]:
    """Return a page of search results."""
    nodes = [*_head(instruction), _text(f"Page {hits.number} (Total results: {hits.total})")]
    if hits.number > 1:
        nodes.append(_button("< Prev"))
    if hits.has_next:
        nodes.append(_button("Next >"))
    for product in hits.products:
        nodes += (Node(Look.LINK, product.asin), _text(product.title), _text(product.price_text))
    return nodes


def item_page(instruction: str, product: Product, *, show_attributes: bool) -> list[Node]:
    """Return the page of a product."""
    nodes = [*_head(instruction), _button("< Prev")]
    for group, values in product.options:
        nodes.append(_text(group))
        nodes += (Node(Look.OPTION, value, group) for value in values)
    nodes += (_text(product.title), _text(f"Price: {product.price_text}"), _text("Rating: N.A."))
    nodes += (_button(name) for name in (SUB_PAGES if show_attributes else SUB_PAGES[:3]))
    nodes.append(_button("Buy Now"))
    return nodes


def sub_page(instruction: str, product: Product, name: str) -> list[Node]:
    """Return one of the `SUB_PAGES` of a product. Reviews are empty, as the original loads none."""
    texts: list[str] = []
    if name == "Description":
        texts = [product.description]
    elif name == "Features":
        texts = [f" {bullet}" for bullet in product.bullets]
    elif name == "Attributes":
        texts = [f" {attribute}" for attribute in product.attributes]
        texts += [product.category, product.query, product.product_category]
    return [*_head(instruction), _button("< Prev"), *map(_text, texts)]


def done_page(asin: str, options: Mapping[str, str], reward: float) -> list[Node]:
    """Return the page after buying. Its odd words, and everything that is `None`, are the original's."""
    chosen = json.dumps(options, sort_keys=True)
    for letter in "<>&'":
        chosen = chosen.replace(letter, f"\\u{ord(letter):04x}")
    before = "Thank you for shopping with us!|Your code: |None| (Paste it in your MTurk interface.)|Purchased|asin"
    after = (
        "attrs|None|category|None|query|None|product category|None|Target|asin|options|attrs|price upper|"
        "instuction text|category|product category|query|Goal |None|Reward|Your score (min 0.0, max 1.0)"
    )
    texts = [*before.split("|"), asin, "options", chosen, *after.split("|"), str(reward), "Reward Details ", "None"]
    return [_text(text) for text in texts]


def as_text(nodes: Iterable[Node]) -> str:
    """Return mode `text`: the nodes, stripped, with ` [SEP] ` between them."""
    return " [SEP] ".join([shown.strip() for node in nodes if (shown := _shown(node.text))])


def as_rich_text(nodes: Iterable[Node], url: str, visited: Collection[str]) -> str:
    """Return mode `text_rich`: a line a node, buttons and options marked, and what was clicked.

    An option counts as clicked if the URL holds it in double quotes; so does the original tell.
    """
    lines: list[str] = []
    clicked: list[str] = []
    for node in nodes:
        text = _shown(node.text)
        if not text:
            continue
        if node.look is Look.TEXT:
            lines.append(f"{text}\n")
        elif node.look is Look.BUTTON:
            lines.append(f"[button] {text} [button_]\n")
        elif node.look is Look.LINK:
            mark = "clicked button" if text in visited else "button"
            lines.append(f"\n[{mark}] {text} [{mark}_]\n")
        else:
            is_clicked = f'"{text}"' in url
            mark = "clicked button" if is_clicked else "button"
            lines.append(f"  [{mark}] {text} [{mark}_]\n")
            if is_clicked:
                clicked.insert(0, f"You have clicked {text}.\n")
    return "".join(clicked) + "".join(lines)


def as_html(nodes: Sequence[Node]) -> str:
    """Return mode `html`: a small page of our own with the ids and classes of the original's."""
    parts = ["<!DOCTYPE html><html><body>"]
    if nodes[0].text == "WebShop":
        parts.append(f'<h2>WebShop</h2>{_instruction(nodes[2].text)}<input id="search_input" type="text">')
        nodes = nodes[3:]
    elif nodes[0].text == "Instruction:":
        parts.append(_instruction(nodes[1].text))
        nodes = nodes[2:]
    else:
        parts.append(f'<div id="reward"><h3>Reward</h3><pre>{escape(nodes[-3].text)}</pre></div>')
    parts += map(_element, nodes)
    return "\n".join([*parts, "</body></html>"])


def _element(node: Node) -> str:
    text = escape(node.text)
    if node.look is Look.BUTTON:
        return f'<button type="submit" class="btn">{text}</button>'
    if node.look is Look.LINK:
        return f'<a class="product-link" href="#">{text}</a>'
    if node.look is Look.OPTION:
        return f'<label><input type="radio" name="{escape(node.group)}" value="{text}">{text}</label>'
    return f"<p>{text}</p>"


def _instruction(text: str) -> str:
    return f'<div id="instruction-text"><h4>Instruction: {escape(text)}</h4></div>'


def _shown(text: str) -> str:
    """Return a text as an HTML parser gives it: blanks with a line break are no node, other blanks are one blank."""
    if text.strip(_BLANKS):
        return text
    return "" if "\n" in text or not text else " "


def _head(instruction: str) -> tuple[Node, ...]:
    return (_text("Instruction:"), _text(instruction), _button("Back to Search"))


def _text(text: str) -> Node:
    return Node(Look.TEXT, text)


def _button(text: str) -> Node:
    return Node(Look.BUTTON, text)
