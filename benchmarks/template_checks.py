"""Judges what the package does with a chat template: stops, prompts, actions, demonstrations, text from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from template_play import (
    ACTION,
    OBSERVATIONS,
    THOUGHT,
    Play,
    Told,
    Verdict,
    answer_of,
    lacks_thought,
    opened,
    squeezed,
)
from template_truth import Reply, Truth, Unrenderable, examine, forms, model_reply, own_turns

from agentgym_rft.agents.agent import ChatAgent, chat_format
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.errors import AgentGymError

OTHER_DAY = "2020-02-03"


def judge(tokenizer: Any, card: AgentCard, options: Mapping[str, Any]) -> Verdict:
    """Return what the package does with a template under a card, compared with what is right."""
    verdict = Verdict()
    try:
        truth: Truth | None = examine(tokenizer, options)
        reason = "" if truth is None or truth.ends else "it shows no token that ends a reply"
    except Unrenderable as error:
        truth, reason = None, str(error)
    try:
        chat = chat_format(tokenizer, card)
    except AgentGymError as error:
        verdict.refusal = str(error)
        if not reason:
            verdict.fail("refused", str(error))
        return verdict
    except Exception as error:
        verdict.fail("traceback", f"{type(error).__name__}: {error}")
        return verdict
    if truth is None:
        verdict.fail("accepted", reason)
        return verdict
    verdict.notes = chat.notes
    try:
        _judge_stops(truth, chat, verdict)
        for name, told in _conversations(truth, card).items():
            Play(truth, card, chat, verdict, name).run(told)
        _judge_imitation(truth, card, chat, verdict)
        _judge_observation(truth, card, chat, verdict)
        _judge_date(truth, card, verdict)
    except AgentGymError as error:
        verdict.fail("refused late", str(error))
    except Exception as error:
        verdict.fail("traceback", f"{type(error).__name__}: {error}")
    return verdict


def _judge_stops(truth: Truth, chat: Any, verdict: Verdict) -> None:
    tokenizer = truth.render.tokenizer
    stops, configured = set(chat.stop_ids), configured_ends(tokenizer)
    verdict.stops = tuple(tokenizer.convert_ids_to_tokens(list(chat.stop_ids)))
    missing = configured - stops
    if truth.ends and not stops & set(truth.ends):
        missing |= set(truth.ends)
    odd = (stops - set(truth.ends) - configured - {tokenizer.eos_token_id}) | (stops & truth.never_stops)
    if truth.style == "channel":
        odd -= {tokenizer.convert_tokens_to_ids("<|call|>")}
    if missing:
        verdict.fail("stop ids", f"no {tokenizer.convert_ids_to_tokens(sorted(missing))} in {list(verdict.stops)}")
    elif odd:
        verdict.fail("stop ids", f"{tokenizer.convert_ids_to_tokens(sorted(odd))} in {list(verdict.stops)}")


def configured_ends(tokenizer: Any) -> set[int]:
    """Return the ends that the checkpoint's generation config lists."""
    path = Path(tokenizer.name_or_path) / "generation_config.json"
    return set(json.loads(path.read_text())["eos_token_id"]) if path.is_file() else set()


def _conversations(truth: Truth, card: AgentCard) -> dict[str, list[Told]]:
    answer = answer_of(card)
    told = f"<think>{THOUGHT}</think>{answer}" if card.action.think and truth.style == "none" else answer
    thinking, bare = model_reply(truth, THOUGHT, told), model_reply(truth, "", answer)
    is_valid = not card.action.think or not lacks_thought(truth, bare)
    unsaid = Reply(answer, "", answer)
    found = {
        "thoughts": [Told(thinking, "end")] * 3,
        "eos": [Told(thinking, "eos"), Told(thinking, "eos"), Told(thinking, "end")],
        "cut": [Told(thinking, "cut")] * 2 + [Told(thinking, "end")],
    }
    if card.context.strategy == "full":
        found["no thoughts"] = [Told(bare, "end")] * 3
        found["mixed"] = [Told(thinking, "end"), Told(bare, "end"), Told(thinking, "end")]
        if truth.style not in ("channel", "opens"):
            found["bare"] = [Told(unsaid, "end"), Told(thinking, "end"), Told(unsaid, "end")]
    elif is_valid:
        found["no thoughts"] = [Told(bare, "end")] * 3
    return found


def _judge_imitation(truth: Truth, card: AgentCard, chat: Any, verdict: Verdict) -> None:
    """Compare demonstrations with the template's own text of that turn."""
    is_inline = truth.style in ("none", "closes") and card.action.think
    for thought in (THOUGHT, "") if card.action.think else ("",):
        ids = list(chat.reply(format_reply(ACTION, thought, card.action)))
        if ids[-1] not in chat.stop_ids or any(token in chat.stop_ids for token in ids[:-1]):
            verdict.fail("imitation", f"{truth.render.decode(ids)!r} has not one end")
        answer = answer_of(card)
        if is_inline:
            answer = f"<think>{thought}</think>{answer}"
        own = own_turns(truth, "" if is_inline else thought, answer)
        usual = [model_reply(truth, "" if is_inline else thought, answer).text]
        if card.action.think and not thought:
            usual += _empty_thoughts(truth, answer_of(card))
        # Where the template cannot write such a turn, its white space is the model's choice.
        as_given = truth.pair[0] and any(
            message["content"] in own for message in forms(truth, Reply("", thought, answer)).values()
        )
        is_loose = not own or as_given or (card.action.think and not thought)
        text = _without_end(truth, ids)
        if text in own or (is_loose and squeezed(text) in map(squeezed, usual)):
            continue
        kind = "imitation spaces" if squeezed(text) in map(squeezed, own) else "imitation"
        verdict.fail(kind, f"got {truth.render.decode(ids)!r}, the template writes {(own or usual)[0]!r}")


def _empty_thoughts(truth: Truth, answer: str) -> list[str]:
    """Return the ways to write an empty thought: without one where the prompt has it already."""
    opening, close = truth.pair if truth.style != "none" else ("<think>", "</think>")
    bare = model_reply(truth, "", answer).text
    found = [bare.replace(answer, f"{opening}{close}{answer}"), model_reply(truth, THOUGHT, answer).text]
    return [*(text.replace(THOUGHT, "") for text in found), *([bare] if truth.style == "closes" else [])]


def _without_end(truth: Truth, ids: Sequence[int]) -> str:
    """Return the text of a demonstration without what ends it."""
    text = truth.render.decode(ids[:-1])
    closing = truth.render.encode(truth.closing)
    before = truth.render.decode(closing[: closing.index(ids[-1])] if ids[-1] in closing else [])
    return text.removesuffix(before)


def _judge_observation(truth: Truth, card: AgentCard, chat: Any, verdict: Verdict) -> None:
    """Check that an observation with control tokens in it forges nothing."""
    added = truth.render.tokenizer.added_tokens_decoder
    control = {index for index, token in added.items() if token.special or index in truth.ends}
    marker = "Sign: " + " ".join(added[index].content for index in sorted(control)) + " end."
    told = Told(model_reply(truth, THOUGHT, answer_of(card)), "end")
    ids = Play(truth, card, chat, verdict, "observations").sampled(told)
    rows = []
    for shown in ("Sign: x end.", marker):
        agent = ChatAgent(card, chat)
        for _ in range(2):
            agent.observe(shown, {})
            row = list(agent.prompt().row)
            agent.act(ids)
        rows.append([token for token in row if token in control])
    if rows[0] != rows[1]:
        verdict.fail("observations", f"an observation brings {len(rows[1]) - len(rows[0])} control tokens into the row")
    elif marker not in truth.render.decode(row):
        verdict.fail("observations", "an observation with the text of control tokens is not shown as it is")


def _judge_date(truth: Truth, card: AgentCard, verdict: Verdict) -> None:
    """Check that a template that writes the day writes the run's."""
    agent = ChatAgent(card, chat_format(truth.render.tokenizer, card.model_copy(update={"date": OTHER_DAY})))
    agent.observe(OBSERVATIONS[0], {})
    text, year = truth.render.decode(list(agent.prompt().row)), str(date.today().year)
    today = truth.render(opened(truth, card, OBSERVATIONS[0])).count(year)
    writes_day = today and "strftime_now" in str(truth.render.tokenizer.chat_template)
    if writes_day and (text.count(year) >= today or OTHER_DAY[:4] not in text):
        verdict.fail("date", f"a run of {OTHER_DAY} is told {year}")
