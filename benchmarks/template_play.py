"""Plays conversations through the package's public surface and compares each prompt with the truth of its template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from template_truth import (
    Message,
    Reply,
    Truth,
    Unrenderable,
    forms,
    is_balanced,
    user,
)

from agentgym_rft.agents.agent import ChatAgent
from agentgym_rft.agents.card import AgentCard

OBSERVATIONS = (
    "You are in the middle of a room.\nYou see a desk 1.",
    "Nothing happens.",
    "You see a mug 2 and a pen 1.",
    "The desk 1 is empty.",
)
THOUGHT = "I should look."
ACTION = "look"


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


def answer_of(card: AgentCard) -> str:
    return ACTION if card.action.grammar == "plain" else f"<action>{ACTION}</action>"


def lacks_thought(truth: Truth, reply: Reply) -> bool:
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
        if lacks_thought(self.truth, reply) and (self.card.action.think or self.truth.style == "opens"):
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
        is_whole = not any(self.truth.style == "opens" and lacks_thought(self.truth, one.reply) for one in told)
        texts = [text for text in texts if is_whole and is_balanced(self.truth, text)] or texts
        kept = max((text.count(THOUGHT) for text in texts), default=0)
        return list(dict.fromkeys(text for text in texts if text.count(THOUGHT) >= kept))

    def conversations(self, told: Sequence[Told]) -> list[list[Message]]:
        """Return the conversation in each form that history may take."""
        if self.card.context.strategy != "full":
            return [opened(self.truth, self.card, _window(self.card, told))]
        found = []
        for form in ("written", "usual", "field", "answer"):
            messages = opened(self.truth, self.card, OBSERVATIONS[0])
            for turn, one in enumerate(told):
                ways = forms(self.truth, one.reply)
                messages = [*messages, ways.get(form, ways["answer"]), user(OBSERVATIONS[turn + 1])]
            found.append(messages)
        return found

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


def opened(truth: Truth, card: AgentCard, text: str) -> list[Message]:
    """Return the conversation up to the first message of the user, with the card's system prompt."""
    if truth.system == "folded" and card.system:
        return [user(f"{card.system}\n\n{text}")]
    return [*([{"role": "system", "content": card.system}] if card.system else []), user(text)]


def _after(text: str, reply: str) -> str | None:
    """Return what follows a reply at the start of a text, whatever the white space in it; None if it is another."""
    wanted, at = squeezed(reply), 0
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


def squeezed(text: str) -> str:
    return "".join(text.split())
