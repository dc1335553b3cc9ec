import json
import random

import pytest

from agentgym_rft.envs.webshop.pages import MODES
from agentgym_rft.envs.webshop.session import Session, Shop, parse_action
from agentgym_rft.errors import ConfigError, EnvError
from tests.envs.webshop.shops import RED_MUG, catalog, choices, goals, many_mugs, raw, session


def _play(customer: Session, *actions: str) -> Session:
    for action in actions:
        assert customer.step(action).is_valid, action
    return customer


def _clickables(customer: Session) -> list[str]:
    labels: list[str] = customer.available_actions()["clickables"]
    return labels


@pytest.mark.parametrize(
    ("action", "parsed"),
    [
        ("search[Red Mug]", ("search", "red mug")),
        ("click[Buy Now] and more", ("click", "buy now")),
        ("search[]", ("search[]", None)),
        ("search[a[b]c]", ("search[a", "b]c")),
        ("think[x] click[y]", ("think[x] click", "y")),
        ("Search[x]", ("Search", "x")),
        (" click[x]", (" click", "x")),
        ("search[a\nb]", ("search[a\nb]", None)),
        ("foo", ("foo", None)),
        ("", ("", None)),
    ],
)
def test_actions_are_parsed_as_in_the_original(action: str, parsed: tuple[str, str | None]) -> None:
    assert parse_action(action) == parsed


@pytest.mark.parametrize(
    "action", ["search[]", "Search[mug]", " click[search]", "click[search]", "click[nothing]", "", "]["]
)
def test_anything_else_changes_nothing(action: str) -> None:
    customer = session()
    before = customer.snapshot(), customer.observation("text"), customer.url
    outcome = customer.step(action)
    assert (outcome.reward, outcome.done, outcome.is_valid) == (0.0, False, False)
    assert (customer.snapshot(), customer.observation("text"), customer.url) == before


@pytest.mark.parametrize("value", ["8.4 ounce  |  250 ml", "red [matte]", "[a] b]", "a[b"])
def test_options_that_the_original_could_not_be_told_are_chosen(value: str) -> None:
    shop = Shop(catalog([raw("B000000001", "Mug", customization_options=choices(Size=[value, "red [glossy]"]))]))
    customer = _play(Session(shop, goals(shop.catalog)[0], "7"), "search[mug]", "click[b000000001]")
    label = _clickables(customer)[-2]
    assert label == value
    _play(customer, f"click[{' '.join(label.split())}]")
    assert customer.snapshot()["options"] == {"size": value}


def test_clickables_of_every_page() -> None:
    customer = session(show_attributes=True)
    assert customer.available_actions() == {"has_search_bar": True, "clickables": ["search"]}
    _play(customer, "search[harbor mug]")
    assert customer.available_actions() == {
        "has_search_bar": False,
        "clickables": ["back to search", "next >", "b000000002", "b000000001"],
    }
    item = ["back to search", "< prev", "description", "features", "reviews", "attributes", "buy now"]
    _play(customer, "click[B000000001]")
    assert _clickables(customer) == [*item, "s", "x | l", "red", "blue"]
    _play(customer, "click[Attributes]")
    assert _clickables(customer) == ["back to search", "< prev"]
    _play(customer, "click[< prev]", "click[buy now]")
    assert _clickables(customer) == []


def test_buying_gives_the_reward_and_names_what_was_chosen() -> None:
    customer = _play(session(), "search[mug]", "click[b000000001]", "click[red]", "click[s]")
    outcome = customer.step("click[Buy Now]")
    assert (outcome.reward, outcome.done) == (1.0, True)
    assert '{"color": "red", "size": "s"}' in customer.observation("text")
    assert customer.url == "http://127.0.0.1:3000/done/0/B000000001/{'color': 'red', 'size': 's'}"


def test_one_can_go_on_after_buying_as_in_the_original() -> None:
    customer = _play(session(), "search[mug]", "click[b000000002]", "click[buy now]")
    assert (
        _play(customer, "search[mug]", "click[b000000001]", "click[red]", "click[s]").step("click[buy now]").reward == 1
    )


def test_options_stay_on_sub_pages_and_are_lost_on_the_way_back_to_the_results() -> None:
    customer = _play(session(), "search[mug]", "click[b000000001]", "click[red]", "click[blue]", "click[features]")
    assert customer.url.endswith("/mug/1/Features/{'color': 'blue'}")
    assert customer.snapshot()["options"] == {"color": "blue"}
    _play(customer, "click[< prev]")
    assert customer.url.endswith('/item_page/0/B000000001/mug/1/{"color": "blue"}')
    _play(customer, "click[< prev]")
    assert customer.url == "http://127.0.0.1:3000/search_results/0/mug/1"
    assert customer.snapshot()["options"] == {}
    assert "[clicked button] B000000001" in customer.observation("text_rich")


def test_back_to_search_forgets_what_was_visited() -> None:
    customer = _play(session(), "search[mug]", "click[b000000001]", "click[back to search]", "search[mug]")
    assert "clicked" not in customer.observation("text_rich")


def test_results_have_ten_a_page_and_go_on_for_ever() -> None:
    shop = Shop(catalog([RED_MUG, *many_mugs(24)]))
    customer = _play(Session(shop, goals(shop.catalog)[0], "7"), "search[mug]")
    counts = []
    for _ in range(4):
        counts.append(sum(label.startswith("b0") for label in _clickables(customer)))
        _play(customer, "click[next >]")
    assert counts == [10, 10, 5, 0]
    assert "Page 5 (Total results: 25)" in customer.observation("text")
    assert _clickables(_play(customer, "click[< prev]")) == ["back to search", "< prev", "next >"]


def test_at_most_fifty_products_answer_a_search() -> None:
    shop = Shop(catalog([RED_MUG, *many_mugs(60)]))
    customer = _play(Session(shop, goals(shop.catalog)[0], "7"), "search[mug]")
    assert "(Total results: 50)" in customer.observation("text")


def test_without_endless_next_the_last_page_has_no_next() -> None:
    shop = Shop(catalog([RED_MUG, *many_mugs(9)]), endless_next=False)
    assert "next >" not in _clickables(_play(Session(shop, goals(shop.catalog)[0], "7"), "search[mug]"))


def test_search_works_on_any_page_unless_the_shop_says_otherwise() -> None:
    customer = _play(session(), "search[mug]", "click[b000000001]", "search[shoe]")
    assert "b000000003" in _clickables(customer)
    strict = _play(session(search_anywhere=False), "search[mug]")
    assert not strict.step("search[shoe]").is_valid
    _play(strict, "click[back to search]", "search[shoe]")


def test_a_search_for_stop_words_only_finds_nothing() -> None:
    assert "(Total results: 0)" in _play(session(), "search[the of and]").observation("text")


def test_the_back_doors_are_closed_unless_asked_for() -> None:
    assert "b000000003" not in _clickables(_play(session(), "search[<q> nothing]"))
    for query, found in {
        "<q> shoes": ["b000000003"],
        "<c> garden": ["b000000001", "b000000002"],
        "<a> non slip": ["b000000003"],
        "<r>": ["b000000001", "b000000002", "b000000003"],
        "<c>": [],
    }.items():
        customer = _play(session(special_queries=True), f"search[{query}]")
        assert sorted(label for label in _clickables(customer) if label.startswith("b0")) == found, query


def test_options_named_like_buttons_do_what_the_button_does() -> None:
    item = {**RED_MUG, "customization_options": choices(Color=["Buy Now", "Search", "Features", "Red"], Trim=["Red"])}
    shop = Shop(catalog([item]))
    customer = _play(Session(shop, goals(shop.catalog)[0], "0"), "search[mug]", "click[b000000001]")
    assert _clickables(customer).count("features") == 1
    assert not customer.step("click[search]").is_valid
    _play(customer, "click[red]")
    assert customer.snapshot()["options"] == {"trim": "red"}  # equal values set the last group
    _play(customer, "click[features]")
    assert customer.snapshot()["page"] == "item_sub_page"
    _play(customer, "click[< prev]")
    assert customer.step("click[buy now]").done


def test_words_of_the_search_can_confuse_the_way_back_as_in_the_original() -> None:
    customer = _play(session(), "search[mug search_results]", "click[b000000001]", "click[< prev]")
    assert "Page 0 (Total results: 2)" in customer.observation("text")
    customer = _play(session(), "search[mug item_page]", "click[b000000001]", "click[features]", "click[< prev]")
    assert customer.snapshot()["page"] == "search_results"


def test_values_that_json_escapes_never_show_as_clicked() -> None:
    item = raw("B000000001", "A Mug", customization_options=choices(Color=["Rosé", 'The "Red"', "Plain"]))
    shop = Shop(catalog([item]))
    customer = _play(Session(shop, goals(shop.catalog)[0], "0"), "search[mug]", "click[b000000001]", "click[rosé]")
    assert "clicked" not in customer.observation("text_rich")
    assert "You have clicked plain." in _play(customer, "click[plain]").observation("text_rich")


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="no observation mode 'pixels'"):
        session().observation("pixels")


def test_a_random_walk_never_raises_and_a_snapshot_at_any_point_goes_on_alike() -> None:
    draw = random.Random(0)
    shop = Shop(catalog([RED_MUG, *many_mugs(24)]), special_queries=True, show_attributes=True)
    customer, twin = (Session(shop, goals(shop.catalog)[0], "0") for _ in range(2))
    words = ["mug", "<r>", "<a>", "<q> mugs", "search_results", "  ", "\ud800", "harbor red"]
    for _ in range(600):
        labels = _clickables(customer) or ["nothing"]
        action = draw.choice(
            [f"click[{draw.choice(labels)}]", f"click[{draw.choice(labels)}]", f"search[{draw.choice(words)}]"]
        )
        twin.restore(json.loads(json.dumps(customer.snapshot())))
        assert twin.step(action) == customer.step(action)
        for mode in MODES:
            assert twin.observation(mode) == customer.observation(mode)


def test_a_snapshot_stays_as_it_is_when_its_session_goes_on() -> None:
    customer = _play(session(), "search[mug]", "click[b000000001]", "click[red]")
    saved = customer.snapshot()
    customer.restore(saved)
    _play(customer, "click[blue]")
    assert saved["options"] == {"color": "red"}


@pytest.mark.parametrize(
    "saved", [{}, {"page": "item_page", "asin": "B0NOWHERE"}, {"page": "index", "basket": 1}, {"page": "item_page"}]
)
def test_a_snapshot_that_does_not_fit_is_refused(saved: dict[str, object]) -> None:
    customer = session()
    if not saved:
        saved = {**customer.snapshot(), "page": "done", "asin": None}
    with pytest.raises(EnvError, match="damaged or of another catalogue"):
        customer.restore(saved)
