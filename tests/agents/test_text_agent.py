import pytest

from agentgym_rft.agents.agent import ChatAgent, TextAgent, chat_format
from agentgym_rft.agents.card import card_label, parse_card

EPISODE = [
    ("You are in the middle of a room.", "go to desk 1"),
    ("You see a mug.", "look"),
    ("Nothing happens.", "look"),
]


@pytest.mark.parametrize("strategy", ["full", "window", "notes"])
@pytest.mark.parametrize("system", ["", "You act in a household."])
def test_a_model_reached_by_text_sees_what_one_reached_by_tokens_sees(tokenizer, strategy, system):
    context = {"strategy": strategy, "num_turns": 1, "show_goal": True, "show_admissible": True}
    card = parse_card({"name": "c", "system": system, "context": context})
    chat = chat_format(tokenizer, card)
    by_tokens, by_text = ChatAgent(card, chat), TextAgent(card)
    info = {"goal": "take the mug", "admissible_actions": ["look", "go to desk 1"]}
    for observation, action in EPISODE:
        by_tokens.observe(observation, info)
        messages = by_text.messages(observation, info)
        assert tuple(by_tokens.prompt().row) == chat.opening(messages)
        by_tokens.act(chat.reply(action))
        assert by_text.act(action).action == action


def test_cards_have_equal_labels_only_if_they_are_equal():
    card = parse_card({"name": "plain"})
    assert card_label(card) == card_label(parse_card({"name": "plain"}))
    assert card_label(card).startswith("plain@")
    assert card_label(card) != card_label(parse_card({"name": "plain", "system": "Play."}))
