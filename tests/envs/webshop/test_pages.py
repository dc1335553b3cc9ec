import dataclasses

from agentgym_rft.envs.webshop import pages
from agentgym_rft.envs.webshop.pages import Hits
from agentgym_rft.envs.webshop.products import clean_product
from tests.envs.webshop.shops import BLUE_MUG, RED_MUG

RED = clean_product(RED_MUG, ["easy clean"])
BLUE = clean_product(BLUE_MUG, ["easy clean"])


def test_the_index_page() -> None:
    nodes = pages.index_page("Buy a mug")
    assert pages.as_text(nodes) == "WebShop [SEP] Instruction: [SEP] Buy a mug [SEP] Search"
    assert pages.as_rich_text(nodes, "", ()) == "WebShop\nInstruction: \nBuy a mug\n[button] Search [button_]\n"


def test_the_results_page_has_prev_from_page_two_and_marks_visited_products() -> None:
    first = pages.results_page("Buy", Hits(1, 12, [RED], True))
    assert pages.as_text(first) == (
        "Instruction: [SEP] Buy [SEP] Back to Search [SEP] Page 1 (Total results: 12) [SEP] Next > [SEP] "
        "B000000001 [SEP] Harbor Coffee Mug [SEP] $19.99"
    )
    second = pages.results_page("Buy", Hits(2, 12, [RED, BLUE], False))
    assert pages.as_rich_text(second, "", ["B000000002"]) == (
        "Instruction:\nBuy\n[button] Back to Search [button_]\nPage 2 (Total results: 12)\n[button] < Prev [button_]\n"
        "\n[button] B000000001 [button_]\nHarbor Coffee Mug\n$19.99\n"
        "\n[clicked button] B000000002 [clicked button_]\nHarbor Coffee Mug Blue\n$10.0 to $20.0\n"
    )


def test_the_item_page_in_both_modes() -> None:
    nodes = pages.item_page("Buy", RED, show_attributes=True)
    assert pages.as_text(nodes) == (
        "Instruction: [SEP] Buy [SEP] Back to Search [SEP] < Prev [SEP] size [SEP] s [SEP] x | l [SEP] color [SEP] red "
        "[SEP] blue [SEP] Harbor Coffee Mug [SEP] Price: $19.99 [SEP] Rating: N.A. [SEP] Description [SEP] Features "
        "[SEP] Reviews [SEP] Attributes [SEP] Buy Now"
    )
    rich = pages.as_rich_text(nodes, 'http://x/{"size": "x | l", "color": "red"}', ())
    assert rich.startswith("You have clicked red.\nYou have clicked x | l.\nInstruction:\n")
    assert "size\n  [button] s [button_]\n  [clicked button] x | l [clicked button_]\n" in rich
    assert "Attributes" not in pages.as_text(pages.item_page("Buy", RED, show_attributes=False))


def test_sub_pages_show_their_texts() -> None:
    head = "Instruction: [SEP] Buy [SEP] Back to Search [SEP] < Prev"
    shown = {name: pages.as_text(pages.sub_page("Buy", BLUE, name)) for name in pages.SUB_PAGES}
    assert shown == {
        "Description": f"{head} [SEP] A blue mug.",
        "Features": f"{head} [SEP] Easy to clean [SEP] BPA free",
        "Reviews": head,
        "Attributes": f"{head} [SEP] easy clean [SEP] garden [SEP] mugs [SEP] Home & Kitchen › Dining › Mugs",
    }
    assert pages.as_rich_text(pages.sub_page("Buy", BLUE, "Features"), "", ()).endswith(
        "\n Easy to clean\n BPA free \n"
    )


def test_an_empty_text_is_no_node_and_a_blank_one_is_an_empty_one() -> None:
    product = dataclasses.replace(RED, description="", bullets=("", " \n ", "x", "\u00a0"))
    assert pages.as_text(pages.sub_page("Buy", product, "Description")).endswith("[SEP] < Prev")
    # Bullets have a blank in front, so an empty one is an empty node; one with a line break is none.
    assert pages.as_text(pages.sub_page("Buy", product, "Features")).endswith("[SEP] < Prev [SEP]  [SEP] x [SEP] ")


def test_the_done_page_is_the_originals_word_for_word() -> None:
    nodes = pages.done_page("B000000001", {"size": "s", "color": "<red> & 'blue'"}, 0.5)
    assert pages.as_text(nodes) == (
        "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in your MTurk interface.) [SEP] "
        "Purchased [SEP] asin [SEP] B000000001 [SEP] options [SEP] "
        '{"color": "\\u003cred\\u003e \\u0026 \\u0027blue\\u0027", "size": "s"} [SEP] attrs [SEP] None [SEP] category '
        "[SEP] None [SEP] query [SEP] None [SEP] product category [SEP] None [SEP] Target [SEP] asin [SEP] options "
        "[SEP] attrs [SEP] price upper [SEP] instuction text [SEP] category [SEP] product category [SEP] query [SEP] "
        "Goal [SEP] None [SEP] Reward [SEP] Your score (min 0.0, max 1.0) [SEP] 0.5 [SEP] Reward Details [SEP] None"
    )


def test_html_has_the_ids_and_classes_of_the_original_and_escapes_texts() -> None:
    index = pages.as_html(pages.index_page("a <b>"))
    assert '<input id="search_input"' in index
    assert '<div id="instruction-text"><h4>Instruction: a &lt;b&gt;</h4></div>' in index
    assert '<a class="product-link" href="#">B000000001</a>' in pages.as_html(
        pages.results_page("Buy", Hits(1, 1, [RED], True))
    )
    item = pages.as_html(pages.item_page("Buy", RED, show_attributes=False))
    assert '<input type="radio" name="size" value="x | l">' in item
    assert '<button type="submit" class="btn">Buy Now</button>' in item
    assert '<div id="reward"><h3>Reward</h3><pre>0.75</pre></div>' in pages.as_html(pages.done_page("B0", {}, 0.75))
