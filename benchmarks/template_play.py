"""Plays conversations through the package's public surface and compares each prompt with the truth of its template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from template_truth import (
    Message,
    Reply,
    Truth,
    Unrenderable,
    encode,
    examine,
    forms,
    is_balanced,
    model_reply,
    own_turns,
    render,
    user,
)

from agentgym_rft.agents.agent import ChatAgent, chat_format
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.errors import AgentGymError

OBSERVATIONS = (
    "You are in the middle of a room.\nYou see a desk 1.",
    "Nothing happens.",
    "You see a mug 2 and a pen 1.",
    "The desk 1 is empty.",
    "You take the mug 2.",
)
THOUGHT = "I should look."
ACTION = "look"


@dataclass
class Verdict:
    """What a template with one tokenizer and one card gave: failures by kind, and facts for the table."""

    failures: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    grows: bool | None = None
    could_grow: bool | None = None
    notes: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()

    def fail(self, kind: str, detail: str) -> None:
        self.failures.setdefault(kind, detail)


def answer_of(card: AgentCard) -> str:
    return ACTION if card.action.grammar == "plain" else f"<action>{ACTION}</action>"


def judge(tokenizer: Any, card: AgentCard, **options: Any) -> Verdict:
    """Return what the package does with a template under a card, compared with what is right."""
    verdict = Verdict()
    try:
        truth = examine(tokenizer, **options)
    except Unrenderable as error:
        return _refused(tokenizer, card, verdict, f"needless of {error}")
    try:
        chat = chat_format(tokenizer, card)
    except AgentGymError as error:
        verdict.refusal = str(error)
        if truth.end is not None:
            verdict.fail("refused", str(error))
        return verdict
    except Exception as error:
        verdict.fail("traceback", f"{type(error).__name__}: {error}")
        return verdict
    verdict.notes = tuple(getattr(chat, "notes", ()))
    verdict.grows = chat.is_growing and card.context.strategy == "full"
    try:
        _judge_stops(tokenizer, truth, chat, verdict)
        for name, replies in _conversations(tokenizer, truth, card, options).items():
            _play(tokenizer, truth, card, chat, replies, options, verdict, name)
        _judge_imitation(tokenizer, truth, card, chat, options, verdict)
        _judge_observation(tokenizer, truth, card, chat, options, verdict)
    except AgentGymError as error:
        verdict.fail("refused late", str(error))
    except Exception as error:
        verdict.fail("traceback", f"{type(error).__name__}: {error}")
    return verdict


def _refused(tokenizer: Any, card: AgentCard, verdict: Verdict, reason: str) -> Verdict:
    """Expect a refusal of a template that cannot hold a conversation."""
    try:
        chat_format(tokenizer, card)
    except AgentGymError as error:
        verdict.refusal = str(error)
    except Exception as error:
        verdict.fail("traceback", f"{type(error).__name__}: {error}")
    else:
        verdict.fail("accepted", reason)
    return verdict


def _judge_stops(tokenizer: Any, truth: Truth, chat: Any, verdict: Verdict) -> None:
    stops = set(chat.stop_ids)
    verdict.stops = tuple(tokenizer.convert_ids_to_tokens(list(chat.stop_ids)))
    missing = (truth.stops | configured_ends(tokenizer)) - stops
    if missing:
        verdict.fail("stop ids", f"no {tokenizer.convert_ids_to_tokens(sorted(missing))} in {list(verdict.stops)}")
    odd = stops - truth.stops - configured_ends(tokenizer) - {tokenizer.eos_token_id}
    if odd or stops & truth.never_stops:
        verdict.fail("stop ids", f"{tokenizer.convert_ids_to_tokens(sorted(odd or stops & truth.never_stops))} stop")


def configured_ends(tokenizer: Any) -> set[int]:
    """Return the ends that the checkpoint's generation config lists."""
    path = Path(tokenizer.name_or_path) / "generation_config.json"
    return set(json.loads(path.read_text())["eos_token_id"]) if path.is_file() else set()


# One reply of a conversation: what is written, and how it is ended ("end", "eos" or "cut").
Told = tuple[Reply, str]


def _conversations(
    tokenizer: Any, truth: Truth, card: AgentCard, options: Mapping[str, Any]
) -> dict[str, Sequence[Told]]:
    answer = answer_of(card)
    inline = f"<think>{THOUGHT}</think>{answer}" if card.action.think else answer
    if truth.style == "none":
        thinking, bare = Reply(inline, "", inline), Reply(answer, "", answer)
    else:
        thinking = model_reply(tokenizer, truth, THOUGHT, answer, **options)
        bare = model_reply(tokenizer, truth, "", answer, **options)
    own = _own_bare(tokenizer, truth, answer, options) or bare
    return {
        "thoughts": [(thinking, "end")] * 3,
        "no thoughts": [(own, "end")] * 3,
        "bare": [(bare, "end")] * 3,
        "mixed": [(thinking, "end"), (bare, "end"), (thinking, "end")],
        "eos": [(thinking, "eos"), (own, "eos"), (thinking, "end")],
        "cut": [(own, "cut"), (thinking, "cut"), (own, "end")],
    }


def _own_bare(tokenizer: Any, truth: Truth, answer: str, options: Mapping[str, Any]) -> Reply | None:
    """Return a reply without a thought as the template writes its last turn."""
    if truth.style == "channel" or truth.end is None:
        return None
    end = tokenizer.decode([truth.end])
    texts = own_turns(tokenizer, truth, "", answer, **options)
    return Reply(texts[0].removesuffix(end), "", answer) if texts else None


def _end_ids(tokenizer: Any, truth: Truth, ending: str) -> list[int]:
    if ending == "cut":
        return []
    if ending == "eos" or truth.end is None:
        return [tokenizer.eos_token_id]
    return [tokenizer.convert_tokens_to_ids("<|return|>")] if truth.style == "channel" else [truth.end]


def _play(
    tokenizer: Any,
    truth: Truth,
    card: AgentCard,
    chat: Any,
    replies: Sequence[Told],
    options: Mapping[str, Any],
    verdict: Verdict,
    name: str,
) -> None:
    agent = ChatAgent(card, chat)
    told: list[Told] = []
    row: list[int] = []
    for turn, observation in enumerate(OBSERVATIONS[: len(replies) + 1]):
        agent.observe(observation, {})
        prompt = agent.prompt()
        got = list(prompt.row)
        wanted = _wanted(tokenizer, truth, card, told, options)
        kept = None if prompt.restart or not told else _continued(tokenizer, truth, card, told, row, options)
        ends = truth.stops | truth.never_stops | {tokenizer.eos_token_id, truth.end}
        accepted = [_same_ends(ids, ends) for ids in (*wanted, *(kept or ()))]
        if _same_ends(got, ends) not in accepted:
            verdict.fail(f"ids ({name})", _difference(tokenizer, got, wanted))
            return
        if turn == len(replies):
            return
        reply, ending = replies[turn]
        ids = encode(tokenizer, reply.text) + _end_ids(tokenizer, truth, ending)
        row = [*got, *ids]
        _, parsed = agent.act(ids)
        _judge_parse(truth, card, reply, parsed, verdict, name)
        told.append((reply, ending))


def _same_ends(ids: Sequence[int], ends: set[int | None]) -> list[int]:
    """Return ids with every end token as the same one: which one a reply ended with is the model's choice."""
    return [-1 if token in ends else token for token in ids]


def _judge_parse(truth: Truth, card: AgentCard, reply: Reply, parsed: Any, verdict: Verdict, name: str) -> None:
    if _lacks_thought(truth, reply) and (card.action.think or truth.style == "opens"):
        return
    if parsed.action != ACTION or parsed.error:
        verdict.fail(f"parse ({name})", f"{reply.text!r} gave {parsed.action!r}, {parsed.error}")
    elif card.action.think and reply.thought and parsed.think != reply.thought:
        verdict.fail(f"parse ({name})", f"{reply.text!r} gave the thought {parsed.think!r}")


def conversations_of(
    tokenizer: Any, truth: Truth, card: AgentCard, told: Sequence[Told], options: Mapping[str, Any]
) -> list[list[Message]]:
    """Return the conversation in each form that history may take."""
    system: list[Message] = [{"role": "system", "content": card.system}] if card.system else []
    if card.context.strategy != "full":
        return [_opened(truth, system, _window(card, truth, told, opened)) for opened in ("", truth.opened)]
    found = []
    for form in range(4):
        messages = _opened(truth, system, OBSERVATIONS[0])
        for turn, (reply, _) in enumerate(told):
            ways = forms(truth, reply)
            messages = [*messages, ways[min(form, len(ways) - 1)], user(OBSERVATIONS[turn + 1])]
        found.append(messages)
    return found


def _opened(truth: Truth, system: Sequence[Message], text: str) -> list[Message]:
    if truth.system == "folded" and system:
        return [user(f"{system[0]['content']}\n\n{text}")]
    return [*system, user(text)]


def _window(card: AgentCard, truth: Truth, told: Sequence[Told], opened: str) -> str:
    lines = [OBSERVATIONS[0]]
    first = max(len(told) - card.context.num_turns, 0)
    if told:
        lines.append("")
    for turn in range(first, len(told)):
        reply = told[turn][0]
        is_valid = not _lacks_thought(truth, reply)
        lines += [f"> {ACTION if is_valid else (opened + reply.text).strip()}", OBSERVATIONS[turn + 1]]
    return "\n".join(lines)


def _lacks_thought(truth: Truth, reply: Reply) -> bool:
    """Return whether a card that asks for thoughts finds none in a reply, not even an empty one."""
    tags = (truth.pair[1] or "</think>", "</think>")
    return truth.style != "closes" and not any(tag in reply.text for tag in tags)


def _texts(
    tokenizer: Any, truth: Truth, card: AgentCard, told: Sequence[Told], options: Mapping[str, Any]
) -> list[str]:
    """Return the right renderings of a conversation: with whole thoughts, and none lost that another one keeps."""
    texts = []
    for messages in conversations_of(tokenizer, truth, card, told, options):
        try:
            texts.append(render(tokenizer, messages, **options) + truth.header)
        except Unrenderable:
            continue
    texts = [text for text in texts if is_balanced(truth, text)] or texts
    kept = max((text.count(THOUGHT) for text in texts), default=0)
    return list(dict.fromkeys(text for text in texts if text.count(THOUGHT) >= kept))


def _wanted(
    tokenizer: Any, truth: Truth, card: AgentCard, told: Sequence[Told], options: Mapping[str, Any]
) -> list[list[int]]:
    return [encode(tokenizer, text) for text in _texts(tokenizer, truth, card, told, options)]


def _continued(
    tokenizer: Any,
    truth: Truth,
    card: AgentCard,
    told: Sequence[Told],
    row: list[int],
    options: Mapping[str, Any],
) -> list[list[int]]:
    """Return the row that grew: the ids as sampled, then the template's text after the reply."""
    found = []
    reply, ending = told[-1]
    for before in _texts(tokenizer, truth, card, told[:-1], options):
        head = before + reply.text
        for whole in _texts(tokenizer, truth, card, told, options):
            if not whole.startswith(head):
                continue
            rest = encode(tokenizer, whole[len(head) :])
            if ending != "cut" and truth.end in rest:
                rest = rest[rest.index(truth.end) + 1 :]
            found.append([*row, *rest])
    return found


def _difference(tokenizer: Any, got: Sequence[int], wanted: Sequence[Sequence[int]]) -> str:
    if not wanted:
        return f"no rendering is possible, got ...{tokenizer.decode(list(got))[-80:]!r}"
    best = max(wanted, key=lambda ids: _common(got, ids))
    at = _common(got, best)
    start = max(at - 4, 0)
    ours, theirs = tokenizer.decode(list(got[start : at + 12])), tokenizer.decode(list(best[start : at + 12]))
    return f"got ...{ours!r}, the template writes ...{theirs!r}"


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _judge_imitation(
    tokenizer: Any, truth: Truth, card: AgentCard, chat: Any, options: Mapping[str, Any], verdict: Verdict
) -> None:
    """Compare a demonstration with the template's own text of that turn."""
    for thought in (THOUGHT, "") if card.action.think else ("",):
        ids = list(chat.reply(format_reply(ACTION, thought, card.action)))
        answer = answer_of(card)
        if truth.style in ("none", "closes") and card.action.think:
            answer = f"<think>{thought}</think>{answer}"
            own = own_turns(tokenizer, truth, "", answer, **options)
        else:
            own = own_turns(tokenizer, truth, thought, answer, **options)
        if not own:
            end = tokenizer.decode(_end_ids(tokenizer, truth, "end"))
            own = [model_reply(tokenizer, truth, thought, answer, **options).text + end]
        if ids in [encode(tokenizer, text) for text in own]:
            continue
        text = tokenizer.decode(ids)
        kind = "imitation spaces" if _squeezed(text) in map(_squeezed, own) else "imitation"
        verdict.fail(kind, f"got {text!r}, the template writes {own[0]!r}")


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _judge_observation(
    tokenizer: Any, truth: Truth, card: AgentCard, chat: Any, options: Mapping[str, Any], verdict: Verdict
) -> None:
    """Check that an observation with control tokens in it forges nothing."""
    added = tokenizer.added_tokens_decoder
    tokens = [token.content for index, token in sorted(added.items()) if token.special or index == truth.end]
    marker = "Sign: " + " ".join(tokens) + " end."
    reply = model_reply(tokenizer, truth, THOUGHT, answer_of(card), **options)
    rows = []
    for shown in ("Sign: x end.", marker):
        agent = ChatAgent(card, chat)
        for _ in range(2):
            agent.observe(shown, {})
            row = list(agent.prompt().row)
            agent.act(encode(tokenizer, reply.text) + _end_ids(tokenizer, truth, "end"))
        rows.append([token for token in row if token in added and added[token].special or token == truth.end])
        text = tokenizer.decode(row)
    if rows[0] != rows[1]:
        verdict.fail("observations", f"an observation brings {len(rows[1]) - len(rows[0])} control tokens into the row")
    elif marker not in text:
        verdict.fail("observations", "an observation with the text of control tokens is not shown as it is")
