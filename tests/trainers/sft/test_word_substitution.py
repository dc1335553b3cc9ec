"""A substitution changes words alike in a whole episode, and nothing else."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np
import pytest

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard, parse_card
from agentgym_rft.config.load import find_yaml, read_yaml
from agentgym_rft.config.sft import SftSection
from agentgym_rft.envs.webshop.env import WebShopEnv
from agentgym_rft.rollouts.seats import only_agent
from agentgym_rft.trainers.sft.demonstrations import _substitution, demonstrations
from agentgym_rft.trainers.sft.model import train_tokenizer
from agentgym_rft.trainers.sft.word_substitution import Wordbook, WordSubstitution


def substitution(share: float, seed: int = 0, keep: tuple[str, ...] = ()) -> WordSubstitution:
    return WordSubstitution(np.random.default_rng(seed), share, keep, Wordbook())


def test_a_word_is_always_the_same_other_word_in_its_own_case() -> None:
    changed = substitution(1.0).text("Lamp, lamp and LAMP: a lamp.").split()
    word = re.sub(r"\W", "", changed[1])
    assert changed[0] == f"{word.capitalize()},"
    assert changed[3] == f"{word.upper()}:"
    assert changed[5] == f"{word}."


def test_short_words_numbers_marks_and_kept_words_stay() -> None:
    text = "click[2 oz (pack of 3)] $4.99 ab"
    assert substitution(1.0, keep=("click", "pack")).text(text) == text


def test_the_share_of_changed_words_is_as_asked() -> None:
    words = [f"word{'x' * (n % 20)}{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}" for n in range(500)]
    assert len(set(words)) == 500
    shown = substitution(0.4).text(" ".join(words)).split()
    changed = sum(a != b for a, b in zip(words, shown, strict=True))
    assert 0.3 * 500 < changed < 0.5 * 500


def test_numbers_after_a_word_are_always_the_same_other_numbers_and_nothing_else_changes() -> None:
    veil = WordSubstitution(np.random.default_rng(0), 0.0, (), Wordbook(), renumbers=True)
    text = "a mug 2, a mug 1 and a desk 2; 3 turns, step 123."
    shown = veil.text(text)
    first, second, desk = re.findall(r"(?:mug|desk) (\d+)", shown)
    assert shown == f"a mug {first}, a mug {second} and a desk {desk}; 3 turns, step 123."
    assert first != second
    assert (first, second) != ("2", "1")
    assert veil.text("take mug 1 from desk 2") == f"take mug {second} from desk {desk}"


def test_without_a_share_nothing_changes() -> None:
    assert substitution(0.0).text("Find me a red lamp") == "Find me a red lamp"


def test_goal_and_admissible_actions_wear_it_too_and_info_is_a_copy() -> None:
    info = {"goal": "red lamp", "admissible_actions": ["click[lamp]"], "won": False}
    veil = substitution(1.0, keep=("click",))
    shown = veil.info(info)
    assert shown["goal"] == veil.text("red lamp") != "red lamp"
    assert shown["admissible_actions"] == [veil.text("click[lamp]")]
    assert info["goal"] == "red lamp"
    assert shown["won"] is False


@pytest.fixture(scope="module")
def shop() -> WebShopEnv:
    return WebShopEnv(observation_mode="compact", admissible=False, num_products=100, expert_tries=1)


def texts(shop: WebShopEnv, section: SftSection) -> list[tuple[str, list[str]]]:
    """The conversation and the actions of three demonstrations."""
    card: AgentCard = parse_card(read_yaml(find_yaml("agents", "shop")))
    tokenizer = train_tokenizer(["search[a] click[b] Goal: Find me"], 300)
    chat = chat_format(tokenizer, card)
    stream = demonstrations(shop, only_agent(card, chat), split="train", seed=0, section=section)
    return [
        (
            "".join(chat.text(turn.context_ids) for turn in trajectory.turns),
            [chat.text(turn.action_ids) for turn in trajectory.turns],
        )
        for trajectory in islice(stream, 3)
    ]


def test_the_actions_of_a_demonstration_are_in_the_words_of_its_pages(shop: WebShopEnv) -> None:
    keep = ("search", "click", "buy", "now", "goal", "find", "page")
    plain = texts(shop, SftSection(noise=0.0))
    veiled = texts(shop, SftSection(noise=0.0, disguise=0.5, keep_words=keep))
    assert [len(actions) for _, actions in plain] == [len(actions) for _, actions in veiled]
    assert plain != veiled
    for pages, actions in veiled:
        words = set(re.findall(r"[a-z]{3,}", pages.lower()))
        for action in actions:
            assert set(re.findall(r"[a-z]{3,}", action)) <= words | set(keep)


def test_the_share_of_renumbered_demonstrations_is_as_asked() -> None:
    section = SftSection(renumber=0.4)
    found = [_substitution(seed, section, Wordbook()) for seed in range(500)]
    assert 0.35 * 500 < sum(each is not None for each in found) < 0.45 * 500
    assert _substitution(0, SftSection(), Wordbook()) is None


def test_the_same_seed_gives_the_same_disguise(shop: WebShopEnv) -> None:
    section = SftSection(noise=0.0, disguise=0.5)
    assert texts(shop, section) == texts(shop, section)
