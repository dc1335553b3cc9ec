from __future__ import annotations

import pytest

from agentgym_rft.agents.agent import ChatAgent, chat_format
from agentgym_rft.agents.card import AgentCard, parse_card
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.config.load import find_yaml, read_yaml
from agentgym_rft.errors import ConfigError, PolicyError

PLAIN = AgentCard(name="plain", system="Reply.")
THINK = parse_card({"name": "think", "action": {"grammar": "tags", "think": True}})


def play(agent: ChatAgent, chat: ChatFormat, replies: list[str]) -> tuple[list[int], list[bool]]:
    """The last row and the restart flags of a conversation with fixed replies."""
    agent.observe("You see a desk 1.", {})
    restarts = []
    for reply in replies:
        prompt = agent.prompt()
        restarts.append(prompt.restart)
        agent.act(chat.reply(reply))
        agent.observe(f"Result of {reply[-6:]}.", {})
    return list(agent.prompt().row), restarts


def test_a_growing_row_equals_the_whole_conversation_rendered_at_once(tokenizer):
    chat = chat_format(tokenizer, PLAIN)
    row, restarts = play(ChatAgent(PLAIN, chat), chat, ["go to desk 1", "look"])
    messages = [
        {"role": "system", "content": "Reply."},
        {"role": "user", "content": "You see a desk 1."},
        {"role": "assistant", "content": "go to desk 1"},
        {"role": "user", "content": "Result of desk 1."},
        {"role": "assistant", "content": "look"},
        {"role": "user", "content": "Result of look."},
    ]
    assert tokenizer.decode(row) == chat.render(messages)
    assert restarts == [False, False]


def test_a_template_that_forgets_thoughts_opens_a_new_row_each_turn(forgetful_tokenizer):
    chat = chat_format(forgetful_tokenizer, THINK)
    assert not chat.is_growing
    reply = "<think>t</think><action>look</action>"
    row, restarts = play(ChatAgent(THINK, chat), chat, [reply, reply])
    assert restarts == [False, True]
    assert "<think>" not in forgetful_tokenizer.decode(row)


def test_the_same_template_grows_when_replies_hold_no_thoughts(forgetful_tokenizer):
    assert chat_format(forgetful_tokenizer, PLAIN).is_growing


def test_a_reply_cut_by_its_length_gets_its_end_token_as_context(tokenizer):
    chat = chat_format(tokenizer, PLAIN)
    end = chat.stop_ids[0]
    assert tokenizer.convert_ids_to_tokens(end) == "<|end|>"
    assert chat.following("x", None)[0] == end
    assert chat.following("x", end) == chat.following("x", None)[1:]


def test_sampled_ids_stay_in_the_row_even_if_the_text_would_encode_differently(tokenizer):
    chat = chat_format(tokenizer, PLAIN)
    agent = ChatAgent(PLAIN, chat)
    agent.observe("You see a desk 1.", {})
    start = list(agent.prompt().row)
    spelled = [tokenizer.convert_tokens_to_ids(letter) for letter in "look"]
    assert spelled != tokenizer.encode("look", add_special_tokens=False)
    _, parsed = agent.act([*spelled, chat.stop_ids[0]])
    agent.observe("ok", {})
    assert parsed.action == "look"
    assert list(agent.prompt().row)[len(start) : len(start) + 5] == [*spelled, chat.stop_ids[0]]


def test_a_tokenizer_without_chat_template_is_refused(tokenizer, forgetful_tokenizer):
    forgetful_tokenizer.chat_template = None
    with pytest.raises(PolicyError, match="has no chat template"):
        chat_format(forgetful_tokenizer, PLAIN)


@pytest.mark.parametrize("strategy", ["window", "notes"])
def test_window_and_notes_show_the_last_turns_in_one_message(tokenizer, strategy):
    card = parse_card({"name": "w", "context": {"strategy": strategy, "num_turns": 1}})
    chat = chat_format(tokenizer, card)
    agent = ChatAgent(card, chat)
    row, restarts = play(agent, chat, ["go to desk 1", "take mug 2 from shelf 3"])
    text = tokenizer.decode(row)
    assert restarts == [False, True]
    assert text.startswith("<|user|>You see a desk 1.")
    assert "> take mug 2 from shelf 3\nResult of" in text
    assert ("- go to desk 1: Result of desk 1." in text) == (strategy == "notes")


def test_notes_list_what_was_never_tried(tokenizer):
    card = parse_card({"name": "n", "context": {"strategy": "notes", "num_turns": 1}})
    chat = chat_format(tokenizer, card)
    agent = ChatAgent(card, chat)
    agent.observe("Start.", {"admissible_actions": ["go to a", "go to b", "help"]})
    agent.prompt()
    agent.act(chat.reply("go to a"))
    agent.observe("At a.", {"admissible_actions": ["go to b", "open a"]})
    assert "Not tried: go to b; open a." in tokenizer.decode(agent.prompt().row)


def test_admissible_actions_are_listed_without_the_hidden_ones(tokenizer):
    card = parse_card({"name": "a", "context": {"show_admissible": True}})
    agent = ChatAgent(card, chat_format(tokenizer, card))
    agent.observe("Start.", {"admissible_actions": ["help", "look", "go to b"]})
    assert agent.observation == "Start.\nAdmissible: look; go to b"


def test_the_goal_is_repeated_after_each_observation(tokenizer):
    card = parse_card({"name": "g", "context": {"show_goal": True}})
    agent = ChatAgent(card, chat_format(tokenizer, card))
    agent.observe("Start.", {"goal": "find the desk."})
    assert agent.observation == "Start.\nGoal: find the desk."
    agent.observe("Next.", {})
    assert agent.observation == "Next."


def test_a_long_observation_is_cut_and_says_so(tokenizer):
    card = parse_card({"name": "c", "context": {"max_chars": 5}})
    agent = ChatAgent(card, chat_format(tokenizer, card))
    agent.observe("0123456789", {})
    assert agent.observation == "01234 [cut]"


@pytest.mark.parametrize("name", ["plain", "think", "window", "notes"])
def test_every_shipped_card_is_valid(name):
    assert parse_card(read_yaml(find_yaml("agents", name))).name == name


def test_a_bad_card_names_the_field():
    with pytest.raises(ConfigError, match=r"Agent card field 'context\.strategy'"):
        parse_card({"name": "x", "context": {"strategy": "all"}})
