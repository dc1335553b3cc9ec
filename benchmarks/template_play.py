"""Plays conversations through the package's public surface and compares each prompt with the truth of its template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from template_truth import (
    FIRST,
    Message,
    Reply,
    Truth,
    Unrenderable,
    examine,
    forms,
    is_balanced,
    model_reply,
    own_turns,
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
)
THOUGHT = "I should look."
ACTION = "look"
OTHER_DAY = "2020-02-03"


@dataclass
class Verdict:
    """What a template with one tokenizer and one card gave: failures by kind, and facts for the table."""

    failures: dict[str, str] = field(default_factory=dict)
    could_grow: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    restarts: dict[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()

    def fail(self, kind: str, detail: str) -> None:
        self.failures.setdefault(kind, detail)


@dataclass(frozen=True)
class Told:
    """One reply of a conversation and how it is ended: "end", "eos" or "cut"."""

    reply: Reply
    ending: str


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
    verdict.notes = tuple(getattr(chat, "notes", ()))
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


def answer_of(card: AgentCard) -> str:
    return ACTION if card.action.grammar == "plain" else f"<action>{ACTION}</action>"


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
    is_valid = not card.action.think or not _lacks_thought(truth, bare)
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


def _lacks_thought(truth: Truth, reply: Reply) -> bool:
    """Return whether a card that asks for thoughts finds none in a reply, not even an empty one."""
    tags = (truth.pair[1] or "</think>", "</think>")
    return truth.style != "closes" and not any(tag in reply.text for tag in tags)


@dataclass(frozen=True)
class Play:
    """One conversation, played and compared turn by turn."""

    truth: Truth
    card: AgentCard
    chat: Any
    verdict: Verdict
    name: str

    def run(self, replies: Sequence[Told]) -> None:
        """Play the replies; a difference ends the play and is a failure."""
        agent = ChatAgent(self.card, self.chat)
        row: list[int] = []
        for turn in range(len(replies) + 1):
            told = replies[:turn]
            agent.observe(OBSERVATIONS[turn], {})
            prompt = agent.prompt()
            got, wanted = list(prompt.row), [self.truth.render.encode(text) for text in self.texts(told)]
            kept = [] if prompt.restart or not told else self.continued(told, row)
            if not any(self.agree(got, ids) for ids in (*wanted, *kept)):
                self.verdict.fail(f"ids ({self.name})", _difference(self.truth, got, wanted))
                return
            if told:
                self.note_restart(told, is_restart=prompt.restart)
            if turn < len(replies):
                ids = self.sampled(replies[turn])
                row = [*got, *ids]
                self.judge_parse(replies[turn].reply, agent.act(ids)[1])

    def sampled(self, told: Told) -> list[int]:
        """Return the ids that a model writes until one of them stops it."""
        render = self.truth.render
        if told.ending == "cut":
            return render.encode(told.reply.text)
        is_other = render.tokenizer.eos_token_id not in self.truth.ends
        if not self.truth.ends or (told.ending == "eos" and is_other):
            return [*render.encode(told.reply.text), render.tokenizer.eos_token_id]
        closing = render.encode(told.reply.text + self.truth.closing)
        stop = next((at for at, token in enumerate(closing) if token in self.chat.stop_ids), len(closing) - 1)
        return closing[: stop + 1]

    def agree(self, got: Sequence[int], wanted: Sequence[int]) -> bool:
        """Compare ids, with every end token as the same one: which one ended a reply is the model's choice.

        Where the template shows no end of its own, what the model wrote to end a reply is left out.
        """
        eos = self.truth.render.tokenizer.eos_token_id
        ends = {*self.truth.ends, *self.truth.never_stops, eos}
        if not self.truth.ends or self.truth.is_next_header:
            one, other = ([token for token in ids if token != eos] for ids in (got, wanted))
        else:
            one, other = ([-1 if token in ends else token for token in ids] for ids in (got, wanted))
        return one == other

    def note_restart(self, told: Sequence[Told], *, is_restart: bool) -> None:
        """Note whether the row began anew, and whether it had to."""
        self.verdict.restarts[self.name] = self.verdict.restarts.get(self.name, False) or is_restart
        is_usual = self.name in ("thoughts", "no thoughts") and self.card.context.strategy == "full"
        if is_restart and is_usual and self.continued(told, []):
            self.verdict.could_grow.setdefault(self.name, told[-1].reply.text)

    def judge_parse(self, reply: Reply, parsed: Any) -> None:
        if _lacks_thought(self.truth, reply) and (self.card.action.think or self.truth.style == "opens"):
            return  # no thought where the card asks for one, or one that never ends
        kind = f"parse ({self.name})"
        if parsed.action != ACTION or parsed.error:
            self.verdict.fail(kind, f"{reply.text!r} gave {parsed.action!r}, {parsed.error}")
        elif self.card.action.think and reply.thought and parsed.think != reply.thought:
            self.verdict.fail(kind, f"{reply.text!r} gave the thought {parsed.think!r}")

    def texts(self, told: Sequence[Told]) -> list[str]:
        """Return the right renderings of a conversation: with whole thoughts, and none lost that another one keeps."""
        texts = []
        for messages in self.conversations(told):
            try:
                texts.append(self.truth.render(messages) + self.truth.header)
            except Unrenderable:
                continue
        is_whole = not any(self.truth.style == "opens" and _lacks_thought(self.truth, one.reply) for one in told)
        texts = [text for text in texts if is_whole and is_balanced(self.truth, text)] or texts
        kept = max((text.count(THOUGHT) for text in texts), default=0)
        return list(dict.fromkeys(text for text in texts if text.count(THOUGHT) >= kept))

    def conversations(self, told: Sequence[Told]) -> list[list[Message]]:
        """Return the conversation in each form that history may take."""
        if self.card.context.strategy != "full":
            return [self.opened(_window(self.card, told))]
        found = []
        for form in ("written", "usual", "field", "answer"):
            messages = self.opened(OBSERVATIONS[0])
            for turn, one in enumerate(told):
                ways = forms(self.truth, one.reply)
                messages = [*messages, ways.get(form, ways["answer"]), user(OBSERVATIONS[turn + 1])]
            found.append(messages)
        return found

    def opened(self, text: str) -> list[Message]:
        system = self.card.system
        if self.truth.system == "folded" and system:
            return [user(f"{system}\n\n{text}")]
        return [*([{"role": "system", "content": system}] if system else []), user(text)]

    def continued(self, told: Sequence[Told], row: Sequence[int]) -> list[list[int]]:
        """Return the row that grew: the ids as sampled, then the template's text after the reply.

        White space in the reply is the model's own, whatever the template would write.
        """
        found = []
        for before in self.texts(told[:-1]):
            for whole in self.texts(told):
                rest = _after(whole[len(before) :], told[-1].reply.text) if whole.startswith(before) else None
                if rest is None:
                    continue
                ids = self.truth.render.encode(rest)
                if told[-1].ending != "cut":
                    ids = self.without_end(ids, row)
                found.append([*row, *ids])
        return found

    def without_end(self, ids: list[int], row: Sequence[int]) -> list[int]:
        """Return the ids after a reply without the end that the row has already."""
        ends = self.truth.ends
        if not row or not ends or (self.truth.is_next_header and row[-1] not in ends):
            return ids
        last = row[-1] if row[-1] in ends else ends[-1]
        return ids[ids.index(last) + 1 :] if last in ids else ids


def _after(text: str, reply: str) -> str | None:
    """Return what follows a reply at the start of a text, whatever the white space in it; None if it is another."""
    wanted, at = _squeezed(reply), 0
    for letter in wanted:
        while at < len(text) and text[at].isspace():
            at += 1
        if at >= len(text) or text[at] != letter:
            return None
        at += 1
    return text[at:]


def _window(card: AgentCard, told: Sequence[Told]) -> str:
    lines = [OBSERVATIONS[0], *([""] if told else [])]
    for turn in range(max(len(told) - card.context.num_turns, 0), len(told)):
        lines += [f"> {ACTION}", OBSERVATIONS[turn + 1]]
    return "\n".join(lines)


def _difference(truth: Truth, got: Sequence[int], wanted: Sequence[Sequence[int]]) -> str:
    if not wanted:
        return f"no rendering is possible, got ...{truth.render.decode(got)[-80:]!r}"
    best = max(wanted, key=lambda ids: _common(got, ids))
    at = _common(got, best)
    start = max(at - 4, 0)
    ours, theirs = (truth.render.decode(ids[start : at + 12]) for ids in (got, best))
    return f"got ...{ours!r}, the template writes ...{theirs!r}"


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


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
            message["content"] in own for message in forms(truth, Reply("", thought, answer))
        )
        is_loose = not own or as_given or (card.action.think and not thought)
        text = _without_end(truth, ids)
        if text in own or (is_loose and _squeezed(text) in map(_squeezed, usual)):
            continue
        kind = "imitation spaces" if _squeezed(text) in map(_squeezed, own) else "imitation"
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


def _squeezed(text: str) -> str:
    return "".join(text.split())


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
    writes_day = year in truth.render([user(FIRST)]) and "strftime_now" in str(truth.render.tokenizer.chat_template)
    if writes_day and (year in text or OTHER_DAY[:4] not in text):
        verdict.fail("date", f"a run of {OTHER_DAY} is told {year}")
