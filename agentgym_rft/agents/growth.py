"""Finds the fixed text between two turns of a template, and which replies stay in a row as they were sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from agentgym_rft.agents.template import LATER, USER, Message, Template
from agentgym_rft.agents.template_shape import Shape
from agentgym_rft.agents.thoughts import PAIRS, Thought, read_reply
from agentgym_rft.errors import PolicyError

_NOTE, _PAST = "§note§", "§past§"
# Long, with signs, blank lines and capitals: a template that shows such a text otherwise than it is renders each turn.
_ROUGH = f'{USER}\r\n\n\tA "mug" & <b>it\'s</b>\\n {{x}} {"much of it " * 200}{LATER}'

Fragment = tuple[str, str]
Said = Callable[[str], Message]  # the message that shows a reply in history


class Growth:
    """How a conversation grows under a template.

    Args:
        said: the message that shows a reply, the thought that the prompt opened included, in history.
        answer: a reply without a thought, as `Template` takes it.
        thinks: True if the card asks for thoughts.
    Attributes:
        between: the template's text around the user's message after a reply; None if no reply stays in a row.
        around_note: the same around a system note and the user's message; None if notes cannot be shown so.
        is_growing: True if replies as the card asks for them stay.
    Raises:
        PolicyError: the template cannot show the replies that the card asks for.
    """

    def __init__(self, template: Template, shape: Shape, said: Said, answer: str, *, thinks: bool) -> None:
        self._template, self._shape, self._said = template, shape, said
        samples = self._samples(answer)
        wanted = self._kind(shape.written("t" if thinks else None, answer))
        fragments = {kind: self._fragment_of(kind, sample, wanted) for kind, sample in samples.items()}
        self.between = fragments[wanted] or next(filter(None, fragments.values()), None)
        self._growing = frozenset(kind for kind, found in fragments.items() if found and found == self.between)
        self.is_growing = wanted in self._growing
        self.around_note = self._note_fragment(samples[wanted])
        self._stays = lru_cache(maxsize=1024)(self._tried)

    def stays(self, sampled: str) -> bool:
        """Return True if the row goes on after a reply: the template shows it later as it was sampled.

        A reply with a thought, or after text that the template adds itself, is tried as it is.
        """
        kind = self._kind(sampled)
        if kind is Thought.NONE and not self._shape.gap:
            return kind in self._growing
        return kind in self._growing and self._stays(sampled)

    def _tried(self, sampled: str) -> bool:
        try:
            return self._fragment(sampled, 1) == self.between
        except PolicyError:
            return False

    def _kind(self, sampled: str) -> Thought:
        return read_reply(self._shape.opened + sampled).kind

    def _samples(self, answer: str) -> dict[Thought, str]:
        """Return a reply of each kind, as a model would sample it; not every kind can follow every prompt."""
        written, before = self._shape.written, self._shape.around_thought[0]
        texts = (written(None, answer), answer, written("", answer), written("t", answer), f"{before}t")
        return {self._kind(text): text for text in reversed(texts)}

    def _fragment_of(self, kind: Thought, sample: str, wanted: Thought) -> Fragment | None:
        try:
            # Two probes of different length show whether the first or the last turns are treated differently.
            found = {self._fragment(sample, num_turns, words) for num_turns in (1, 2) for words in (USER, _ROUGH)}
        except PolicyError:
            if kind is wanted:
                raise
            return None
        return found.pop() if len(found) == 1 else None

    def _fragment(self, sample: str, num_turns: int, words: str = USER) -> Fragment | None:
        """Return the template's text around the user's words after `num_turns` replies, or None if it rewrote history
        or the words.
        """
        messages: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        for turn in range(num_turns):
            if turn:
                messages.append({"role": "user", "content": f"u{turn}"})
            head = self._template.prompt(messages) + sample
            messages.append(self._said(self._shape.opened + sample))
        whole = self._template.prompt([*messages, {"role": "user", "content": words}])
        if not whole.startswith(head):
            return None
        before, found, after = whole[len(head) :].partition(words)
        if found:
            return before, after
        if words == USER:
            raise PolicyError("The chat template does not show the user's message.")
        return None

    def _note_fragment(self, sample: str) -> tuple[str, str, str] | None:
        """Return the template's text around a system note and the user's message after a reply.

        None if the template refuses such a note, drops it, moves it or, where a conversation grows, rewrites history
        for it. Where a conversation does not grow, only the fact that it is not None is of use.
        """
        messages: list[Message] = [{"role": "system", "content": "s"}, {"role": "user", "content": _PAST}]
        noted: list[Message] = [{"role": "system", "content": _NOTE}, {"role": "user", "content": USER}]
        replied = self._said(self._shape.opened + sample)
        render = self._template.prompt
        try:
            whole = render([*messages, replied, *noted])
            later = render([*messages, replied, *noted, replied, {"role": "user", "content": "u"}])
        except PolicyError:
            return None
        at = [whole.find(mark) for mark in (_PAST, _NOTE, USER)]
        if -1 in at or at != sorted(at) or any(whole.count(mark) != 1 for mark in (_PAST, _NOTE, USER)):
            return None
        head = render(messages) + sample
        if self.between is not None and later != whole + sample + self.between[0] + "u" + self.between[1]:
            return None
        start, _, rest = whole[len(head) :].partition(_NOTE)
        middle, _, end = rest.partition(USER)
        return (start, middle, end) if self.between is None or whole.startswith(head) else None


def best_form(template: Template, shape: Shape, forms: Sequence[Said], answer: str) -> Said:
    """Return the form in which a template shows replies best: without a doubled tag, and most often as sampled.

    Some templates keep a thought in the text of a message, others write the tags themselves around one in a field.
    """
    texts = [shape.written(thought, answer) for thought in (None, "", "t")]

    def score(said: Said) -> tuple[bool, int]:
        turns = [_shown_later(template, said(shape.opened + text)) for text in texts]
        is_doubled = any(turn.count(closing) > 1 for turn in turns for _, closing in PAIRS)
        return not is_doubled, sum(shape.tail + text in turn for turn, text in zip(turns, texts, strict=True))

    return max(forms, key=score)


def _shown_later(template: Template, replied: Message) -> str:
    """Return the text of an earlier turn, from the user's words on; empty if the template fails on it."""
    later = {"role": "user", "content": LATER}
    try:
        return (
            template.history([{"role": "user", "content": USER}, replied, later]).partition(USER)[2].partition(LATER)[0]
        )
    except PolicyError:
        return ""
