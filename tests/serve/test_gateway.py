"""Token exactness: what a conversation records is what was sampled, in the context that it was sampled in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.core import Turn
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.serve.gateway import Gateway
from agentgym_rft.serve.settings import ServeSettings
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.scoring import make_scorer, score_rows
from agentgym_rft.trainers.sft.model import train_tokenizer
from tests.agents.conftest import FORGETFUL_TEMPLATE
from tests.light_switch import LightSwitch
from tests.serve.gateways import LIMITS, SYSTEM, Client, Kept, answering, serving

CARD = parse_card({"name": "plain", "system": SYSTEM["content"], "action": {"max_tokens": 8}})


def turns_of(kept: Kept) -> tuple[Turn, ...]:
    (group,) = kept.groups
    (trajectory,) = group.trajectories
    return trajectory.turns


def row_of(turns: tuple[Turn, ...]) -> list[int]:
    return [token for turn in turns for token in (*turn.context_ids, *turn.action_ids)]


def test_the_recorded_ids_have_the_recorded_log_probs_under_the_model(switch_policy):
    kept = Kept()
    with serving(switch_policy, kept, group_size=3) as gateway:
        client = Client(gateway.url)
        for number, temperature in enumerate((1.0, 1.0, 0.5)):
            messages = [SYSTEM]
            client.say(f"c{number}", messages, f"Task {number}, 2 turns left.", temperature=temperature)
            client.say(f"c{number}", messages, f"Task {number}, 1 turns left.", temperature=temperature)
            messages[2]["content"] = "an edited reply"
            client.say(f"c{number}", messages, "Task 7.", temperature=temperature)
            client.feedback(f"c{number}", 0.5, group_id="all", task_id="t")
    model, _ = load_model(switch_policy, device="cpu")
    table, rows = build_table(kept.groups, 0)
    assert len(rows) == 6, "a row and a restart each"
    assert table.turn_columns["on_policy"].all()
    scores = score_rows(make_scorer(model), rows, table.num_tokens, 1000)
    assert table.num_tokens >= 9
    torch.testing.assert_close(scores.logprobs, table.columns["behaviour_logprobs"], atol=1e-4, rtol=0)


def test_a_conversation_records_the_turns_that_our_own_workers_record(switch_policy):
    model, tokenizer = load_model(switch_policy, device="cpu")
    policy = HFPolicy(model, max_context=64, num_threads=1)
    workers = LocalWorkers(LightSwitch, CARD, tokenizer, policy, max_concurrency=1, max_context=64)
    spec = EpisodeSpec("4", "g", "e", 0, 1.0, 2, 64)
    specs = [replace(spec, seed=seed) for seed in range(20)]
    played = [workers.run(lambda s=spec: workers.play(s)) for spec in specs]
    spec, expected = next((s, t.turns) for s, t in zip(specs, played, strict=True) if len(t.turns) == 2)
    kept = Kept()
    with serving(switch_policy, kept, group_size=1) as gateway:
        client, messages = Client(gateway.url), [SYSTEM]
        for number, turn in enumerate(expected):
            seed = derive_seed(spec.seed, number)
            client.say("c", messages, turn.info["observation"], seed=seed, max_tokens=8)
        client.feedback("c", 1.0, task_id="4")
    for ours, theirs in zip(turns_of(kept), expected, strict=True):
        assert ours.context_ids == theirs.context_ids
        assert ours.action_ids == theirs.action_ids
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-6)
        assert ours.restart is theirs.restart is False
        assert ours.info["text"] == theirs.info["text"]


@pytest.mark.parametrize("change", ["edited reply", "dropped turn", "asked again", "other system"])
def test_a_changed_history_opens_a_new_row_and_an_unchanged_one_goes_on(switch_policy, change):
    kept = Kept()
    with serving(switch_policy, kept, group_size=1) as gateway:
        client, messages = Client(gateway.url), [SYSTEM]
        for left in (2, 1):
            client.say("c", messages, f"Task 1, {left} turns left.")
        changed = {
            "edited reply": [*messages[:2], {"role": "assistant", "content": "green"}, *messages[3:]],
            "dropped turn": [messages[0], *messages[3:]],
            "asked again": messages[:3],
            "other system": [{"role": "system", "content": "Say."}, *messages[1:]],
        }[change]
        client.say("c", changed, "Task 2.")
        client.say("c", changed, "Task 3.")
        assert client.status()["requests"]["restarts"] == 1
        client.feedback("c", 1.0)
    turns = turns_of(kept)
    assert [turn.restart for turn in turns] == [False, False, True, False]
    tokenizer = load_model(switch_policy, device="cpu")[1]
    for row, messages_shown in ((turns[:2], messages[:4]), (turns[2:], changed[:-1])):
        shown = tokenizer.apply_chat_template(messages_shown, tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(row_of(row)[: -len(row[-1].action_ids)]) == shown


def scripted(policy: Policy, tokenizer: object, kept: Kept, **limits: object) -> Gateway:
    return Gateway(policy, tokenizer, kept, ServeSettings(**(LIMITS | {"group_size": 1} | limits)), name="g")


def test_sampled_ids_stay_as_they_are_where_their_text_would_be_spelled_otherwise():
    tokenizer = train_tokenizer(["look at the desk"] * 3, 300)
    spelled = [tokenizer.convert_tokens_to_ids(letter) for letter in "look"]
    assert spelled != tokenizer.encode("look", add_special_tokens=False)
    kept = Kept()
    gateway = scripted(ScriptedPolicy(lambda prompt: [*spelled, tokenizer.eos_token_id]), tokenizer, kept)
    with answering(gateway):
        client, messages = Client(gateway.url), []
        assert [client.say("c", messages, "go"), client.say("c", messages, "on")] == ["look", "look"]
        client.feedback("c", 1.0)
    first, second = turns_of(kept)
    assert first.action_ids == second.action_ids == (*spelled, tokenizer.eos_token_id)
    assert not second.restart


def test_a_reply_that_was_cut_gets_its_end_token_as_context():
    tokenizer = train_tokenizer(["look at the desk"] * 3, 300)
    token = tokenizer.encode("look", add_special_tokens=False)[0]
    kept = Kept()
    gateway = scripted(ScriptedPolicy(lambda prompt: [token] * 9), tokenizer, kept)
    with answering(gateway):
        client, messages = Client(gateway.url), [{"role": "user", "content": "go"}]
        reply = client.chat("c", messages, max_tokens=2)
        assert (reply.body["choices"][0]["finish_reason"], reply.body["usage"]["completion_tokens"]) == ("length", 2)
        messages.append({"role": "assistant", "content": reply.text})
        client.say("c", messages, "on", max_completion_tokens=1)
        client.feedback("c", 1.0)
    first, second = turns_of(kept)
    assert first.action_ids == (token, token)
    assert second.context_ids[0] == gateway.chat.stop_ids[0]
    assert not second.restart


def test_a_template_that_forgets_thoughts_opens_a_new_row_only_where_it_does(switch_policy):
    tokenizer = train_tokenizer(["look at the desk", "<think>t</think>"] * 3, 300)
    tokenizer.chat_template = FORGETFUL_TEMPLATE
    for reply, restarts in (("look", [False, False]), ("<think>t</think>look", [False, True])):
        ids = [*tokenizer.encode(reply, add_special_tokens=False), tokenizer.eos_token_id]
        kept = Kept()
        gateway = scripted(ScriptedPolicy(lambda prompt, ids=ids: ids), tokenizer, kept, max_tokens=40)
        with answering(gateway):
            client, messages = Client(gateway.url), []
            assert client.say("c", messages, "go") == reply
            client.say("c", messages, "on")
            client.feedback("c", 1.0)
        assert [turn.restart for turn in turns_of(kept)] == restarts


def test_several_messages_after_a_reply_go_on_in_the_row(switch_policy):
    kept = Kept()
    with serving(switch_policy, kept, group_size=1) as gateway:
        client, messages = Client(gateway.url), [SYSTEM]
        client.say("c", messages, "Task 1.")
        messages += [{"role": "developer", "content": "Note."}, {"role": "user", "content": "Task 2."}]
        parts = [{"type": "text", "text": "Task "}, {"type": "text", "text": "3."}]
        assert client.chat("c", [*messages, {"role": "user", "content": parts}]).status == 200
        client.feedback("c", 1.0)
    turns = turns_of(kept)
    assert not turns[1].restart
    tokenizer = load_model(switch_policy, device="cpu")[1]
    shown = tokenizer.decode(turns[1].context_ids)
    assert shown == "<|system|>Note.<|user|>Task 2.<|user|>Task 3.<|assistant|>"


def test_a_prompt_of_token_ids_goes_on_where_it_begins_with_the_row(switch_policy):
    kept = Kept()
    with serving(switch_policy, kept, group_size=1) as gateway:
        client = Client(gateway.url)
        row = [1, 17, 18, 3]
        for added in ((), (2, 19, 3)):
            row += added
            body = {"prompt": row, "user": "c", "return_token_ids": True, "logprobs": 0, "max_tokens": 4}
            answer = client.post("/v1/completions", body).body
            assert answer["prompt_token_ids"] == row
            (choice,) = answer["choices"]
            row += choice["token_ids"]
            assert len(choice["logprobs"]["token_logprobs"]) == len(choice["token_ids"])
        client.post("/v1/completions", {"prompt": row[1:], "user": "c", "max_tokens": 4})
        client.feedback("c", 1.0)
    turns = turns_of(kept)
    assert [turn.restart for turn in turns] == [False, False, True]
    assert row_of(turns[:2]) == row
    assert list(turns[2].context_ids) == row[1:]


def test_new_weights_answer_from_then_on_under_their_version(switch_policy):
    kept = Kept()
    with serving(switch_policy, kept, group_size=1) as gateway:
        client, messages = Client(gateway.url), [SYSTEM]
        client.say("c", messages, "Task 1.", temperature=0)
        model = load_model(switch_policy, device="cpu")[0]
        weights = {name: tensor + 0.05 for name, tensor in model.state_dict().items()}
        gateway.load(weights, 7)
        client.say("c", messages, "Task 2.", temperature=0)
        answer = client.chat("c2", [SYSTEM, {"role": "user", "content": "Task 1."}], temperature=0)
        assert (answer.body["policy_version"], answer.body["last_version"]) == (7, None)
        assert client.status()["policy_version"] == gateway.version == 7
        client.feedback("c", 1.0)
    turns = turns_of(kept)
    assert [turn.policy_version for turn in turns] == [0, 7]
    model.load_state_dict(weights)
    table, rows = build_table(kept.groups, 7)
    assert table.turn_columns["on_policy"].tolist() == [0, 1]
    scores = score_rows(make_scorer(model), rows, table.num_tokens, 1000)
    last = table.turn == 1
    torch.testing.assert_close(scores.logprobs[last], table.columns["behaviour_logprobs"][last], atol=1e-4, rtol=0)
    assert (scores.logprobs[~last] - table.columns["behaviour_logprobs"][~last]).abs().max() > 1e-3


def play(client: Client, name: str) -> list[str]:
    messages = [SYSTEM]
    replies = [client.say(name, messages, f"Task {left}, {left} turns left.") for left in (3, 2, 1)]
    assert client.feedback(name, 1.0, group_id="all", task_id="t").status == 200
    return replies


def test_32_conversations_at_once_say_what_each_says_alone(switch_policy):
    names = [f"c{number}" for number in range(32)]
    at_once, alone = Kept(), Kept()
    with (
        serving(switch_policy, at_once, group_size=32, max_conversations=32) as gateway,
        ThreadPoolExecutor(32) as pool,
    ):
        client = Client(gateway.url)
        replies = list(pool.map(lambda name: play(client, name), names))
        counts = client.status()["conversations"]
        assert (counts["recorded"], counts["stored"], counts["open"], counts["running"]) == (32, 32, 0, 0)
    with serving(switch_policy, alone, group_size=32) as gateway:
        client = Client(gateway.url)
        assert [play(client, name) for name in names] == replies
    by_name = {t.episode_id: t for t in at_once.groups[0].trajectories}
    for expected in alone.groups[0].trajectories:
        got = by_name[expected.episode_id]
        assert [turn.action_ids for turn in got.turns] == [turn.action_ids for turn in expected.turns]
        assert [turn.context_ids for turn in got.turns] == [turn.context_ids for turn in expected.turns]
