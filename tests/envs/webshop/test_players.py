"""Reading pages and instructions, and the scripted customers."""

import numpy as np
import pytest

from agentgym_rft.envs.webshop.env import WebShopEnv
from agentgym_rft.envs.webshop.players import RandomPlayer, RulePlayer, SearchExpert
from agentgym_rft.envs.webshop.reading import Result, read_instruction, read_view
from agentgym_rft.errors import DataError

RESULTS = (
    "Instruction: [SEP] Find me easy clean mugs, and price lower than 20.00 dollars [SEP] Back to Search [SEP] "
    "Page 2 (Total results: 12) [SEP] < Prev [SEP] Next > [SEP] B012345678 [SEP] Blue Mug [SEP] $12.5 [SEP] "
    "B0ABCDEFGH [SEP] Red Mug [SEP] $1299.0 to $1400.5"
)
ITEM = (
    "Instruction: [SEP] Find me easy clean mugs [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] blue [SEP] red "
    "[SEP] size [SEP] small [SEP] Blue Mug [SEP] Price: $12.5 [SEP] Rating: N.A. [SEP] Description [SEP] Features "
    "[SEP] Reviews [SEP] Buy Now"
)


@pytest.fixture(scope="module")
def env():
    return WebShopEnv()


def play(env, task_id, make):
    """Actions, score, and whether an action was invalid."""
    observation, info = env.reset(options={"task_id": task_id})
    player = make(observation)
    actions, is_over, has_invalid = [], False, False
    while not is_over:
        actions.append(player.act(observation))
        observation, _, terminated, truncated, info = env.step(actions[-1])
        is_over = terminated or truncated
        has_invalid = has_invalid or info["invalid_action"]
    return actions, info["score"], has_invalid


def scores(env, task_ids, make):
    return [play(env, task_id, make)[1] for task_id in task_ids]


def test_a_page_of_results_is_read():
    view = read_view(RESULTS)
    assert (view.kind, view.number, view.has_next) == ("results", 2, True)
    assert view.results == (Result("B012345678", "Blue Mug", 12.5), Result("B0ABCDEFGH", "Red Mug", 1299.0))


def test_a_page_of_a_product_is_read():
    view = read_view(ITEM)
    assert (view.kind, view.title, view.price) == ("item", "Blue Mug", 12.5)
    assert view.options == (("color", ("blue", "red")), ("size", ("small",)))


def test_both_modes_are_read_alike():
    plain, rich = WebShopEnv(observation_mode="text"), WebShopEnv(observation_mode="text_rich")
    for task_id in plain.task_ids("dev")[:15]:
        left, _ = plain.reset(options={"task_id": task_id})
        right, _ = rich.reset(options={"task_id": task_id})
        player = plain.oracle()
        is_over = False
        while not is_over:
            assert read_view(left) == read_view(right)
            action = player.act(left)
            left, _, is_over, _, _ = plain.step(action)
            right, *_ = rich.step(action)


def test_what_is_no_page_is_refused():
    with pytest.raises(DataError, match="observation_mode text or text_rich"):
        read_view("http://127.0.0.1:3000/search_results/1/mugs/1")


def test_an_instruction_of_the_template_is_read():
    wanted = read_instruction(
        "Find me light weight, non slip women's sandals with rubber sole for everyday wear with color: b-navy | white, "
        "and size: 8.5 wide, and price lower than 40.00 dollars"
    )
    assert wanted.names[0] == "women's sandals"
    assert wanted.needs == ("light weight", "non slip", "rubber sole", "everyday wear")
    assert wanted.options == (("color", "b-navy | white"), ("size", "8.5 wide"))
    assert wanted.cap == 40.0


def test_an_instruction_without_options_and_price_is_read():
    wanted = read_instruction("Find me dusty blue lawn gnomes with tin hat")
    assert (wanted.names, wanted.needs) == (("lawn gnomes",), ("dusty blue", "tin hat"))
    assert (wanted.options, wanted.cap) == ((), float("inf"))


def test_a_request_in_free_words_is_read():
    wanted = read_instruction("i'm looking for a gluten-free trail mix in sea salt, and price lower than 30.00 dollars")
    assert wanted.names == ("trail mix",)
    assert wanted.search == "trail mix gluten free sea salt"
    assert not wanted.missing("trail mix, gluten free, with sea salt")
    assert wanted.missing("trail mix with sea salt") == ("gluten", "free")
    assert wanted.cap == 30.0


def test_the_oracle_wins_every_task_of_the_embedded_catalogue(env):
    for split in env.splits:
        assert set(scores(env, env.task_ids(split)[:400], lambda _: env.oracle())) == {1.0}


def test_the_oracle_goes_on_from_anywhere(env):
    task_id = env.task_ids("test")[0]
    for start in (["search[tea]"], ["search[tea]", "click[next >]"], ["search[tea]", "FIRST", "click[features]"]):
        observation, _ = env.reset(options={"task_id": task_id})
        for action in start:
            first = f"click[{read_view(observation).results[0].asin.lower()}]" if action == "FIRST" else action
            observation, *_ = env.step(first)
        player, is_over, info = env.oracle(), False, {}
        while not is_over:
            observation, _, terminated, truncated, info = env.step(player.act(observation))
            is_over = terminated or truncated
        assert info["won"]


def test_the_expert_is_good_short_and_always_valid(env):
    played = [play(env, task_id, lambda o: env.expert(o, np.random.default_rng(0))) for task_id in env.task_ids("test")]
    assert not any(has_invalid for _, _, has_invalid in played)
    assert np.mean([score == 1.0 for _, score, _ in played]) > 0.8
    lengths = [len(actions) for actions, _, _ in played]
    assert np.median(lengths) <= 7
    assert max(lengths) < 20
    assert all(actions[-1] == "click[buy now]" for actions, _, _ in played)


def test_the_expert_with_noise_still_wins_most_and_repeats_with_its_seed(env):
    task_ids = env.task_ids("dev")[:60]

    def actions(seed):
        rng = np.random.default_rng(seed)
        return [play(env, task_id, lambda o: env.expert(o, rng, 0.2)) for task_id in task_ids]

    first = actions(1)
    assert first == actions(1)
    assert first != actions(2)
    assert not any(has_invalid for _, _, has_invalid in first)
    assert np.mean([score == 1.0 for _, score, _ in first]) > 0.6


def test_the_expert_asks_for_an_rng_if_it_is_noisy():
    with pytest.raises(ValueError, match="rng"):
        SearchExpert(None, 0.1)


def test_rule_and_random_are_ordered_below_the_expert(env):
    task_ids = env.task_ids("test")[:150]
    rng = np.random.default_rng(0)
    rule = np.mean(scores(env, task_ids, lambda _: RulePlayer()))
    chance = np.mean(scores(env, task_ids, lambda _: RandomPlayer(rng)))
    expert = np.mean(scores(env, task_ids, lambda o: env.expert(o, rng)))
    assert chance < rule - 0.2 < rule < expert - 0.1


def test_the_players_read_rich_text_too():
    env = WebShopEnv(observation_mode="text_rich")
    won = [
        score == 1.0
        for score in scores(env, env.task_ids("dev")[:40], lambda o: env.expert(o, np.random.default_rng(0)))
    ]
    assert np.mean(won) > 0.6
