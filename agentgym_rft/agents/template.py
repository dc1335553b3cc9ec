"""Renders conversations with a tokenizer's chat template: the only place that calls it.

What a template cannot do is done for it: a system prompt is put before the first message of the user where there is no
system role, and the header of the assistant's turn is added where `add_generation_prompt` is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from jinja2 import TemplateError

from agentgym_rft.agents.thoughts import has_mark
from agentgym_rft.errors import PolicyError

SYSTEM, USER, REPLY, LATER = "§system§", "§user§", "§reply§", "§later§"

Message = Mapping[str, Any]

_CLOCK = "strftime_now"  # the function that tells a template the time
_DIRECTIVES = "aAbBcdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"  # letters after % in a format of `strftime`


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that this package uses."""

    eos_token_id: int | None
    chat_template: Any
    added_tokens_decoder: Mapping[int, Any]

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str: ...

    def get_chat_template(self) -> str: ...

    def apply_chat_template(
        self, conversation: Any, *, chat_template: str, tokenize: bool, add_generation_prompt: bool, **arguments: Any
    ) -> Any: ...


class Template:
    """Renders conversations, in the way that this template can.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        answer: a reply without a thought, with `REPLY` in it.
        arguments: what the template is given beside the messages, such as `enable_thinking`.
        date: the day that the template is told, as YYYY-MM-DD; empty: today.
    Attributes:
        source: its text.
        notes: a sentence on everything that users would not expect.
    Raises:
        PolicyError: there is no template for conversations, it fails, or hides the user's message or the reply.
    """

    def __init__(self, tokenizer: Tokenizer, answer: str, arguments: Mapping[str, Any], date: str) -> None:
        self._tokenizer = tokenizer
        self.source = _source(tokenizer)
        self.notes: tuple[str, ...] = ()
        self._arguments = dict(arguments)
        self._dated = _dated(self.source, date)
        self._note_ignored()
        self._has_parts = self._is_folded = False
        self._header = ""
        self._find_parts()
        self._find_system()
        self._find_header(answer)

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return a conversation as text, ready for the assistant's next reply."""
        return self._render(messages, is_open=True) + self._header

    def history(self, messages: Sequence[Message]) -> str:
        """Return a conversation as text, without the beginning of a further turn."""
        return self._render(messages, is_open=False)

    def _render(self, messages: Sequence[Message], *, is_open: bool) -> str:
        conversation = [self._shown(message) for message in (_folded(messages) if self._is_folded else messages)]
        try:
            text = self._tokenizer.apply_chat_template(
                conversation,
                chat_template=self._dated,
                tokenize=False,
                add_generation_prompt=is_open,
                **self._arguments,
            )
        except Exception as error:  # a template is a program: whatever it raises is its own fault
            kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
            problem = " ".join(str(error).split()).rstrip(".")
            raise PolicyError(f"The chat template cannot be rendered: {kind}{problem}.") from error
        if not isinstance(text, str):
            raise PolicyError(f"The chat template rendered a {type(text).__name__}, expected text.")
        return text

    def _shown(self, message: Message) -> dict[str, Any]:
        if not self._has_parts:
            return dict(message)
        return {**message, "content": [{"type": "text", "text": message["content"]}]}

    def _note_ignored(self) -> None:
        for name in self._arguments:
            if not re.search(rf"\b{re.escape(name)}\b", self.source):
                self.notes += (f"The chat template has no '{name}': chat_template_kwargs sets it without effect.",)

    def _find_parts(self) -> None:
        """Find out how a message's text is passed: some templates of models that see images take lists only."""
        error: PolicyError | None = None
        for self._has_parts in (False, True):
            try:
                if USER in self.prompt([{"role": "user", "content": USER}]):
                    return
            except PolicyError as problem:
                error = error or problem
        raise error or PolicyError("The chat template does not show the user's message.")

    def _find_system(self) -> None:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
        try:
            self._is_folded = SYSTEM not in self.prompt(messages)
        except PolicyError:
            self._is_folded = True
        if USER not in self.prompt(messages):
            raise PolicyError("The chat template does not show the user's message.")
        if self._is_folded:
            self.notes += ("The chat template has no system role: the system prompt begins the user's first message.",)

    def _find_header(self, answer: str) -> None:
        asked = [{"role": "user", "content": USER}]
        whole = self.history([*asked, {"role": "assistant", "content": answer}, {"role": "user", "content": LATER}])
        at = whole.find(answer)
        if at < 0:
            raise PolicyError(
                f"The chat template does not show a reply like '{answer.replace(REPLY, 'look')}' among earlier turns. "
                "Choose an agent card with another grammar."
            )
        prompt = self.prompt(asked)
        if prompt != self.history(asked) or not whole.startswith(prompt):
            return
        header = whole[len(prompt) : at]
        if has_mark(header, self.source) or not header.strip():
            return
        self._header = header
        self.notes += (f"The chat template ignores add_generation_prompt: {header!r} is added to each prompt.",)


def _source(tokenizer: Tokenizer) -> str:
    """Return the text of the template for conversations."""
    if not tokenizer.chat_template:
        raise PolicyError(
            "The policy's tokenizer has no chat template; save one beside it as chat_template.jinja. "
            "A base model has to learn one first, as with `agentgym sft`."
        )
    if isinstance(tokenizer.chat_template, Mapping) and "default" not in tokenizer.chat_template:
        names = ", ".join(sorted(tokenizer.chat_template))
        raise PolicyError(f"The policy's tokenizer has chat templates for {names} only; one named 'default' is needed.")
    return tokenizer.get_chat_template()


def _dated(source: str, date: str) -> str:
    """Return a template that tells one day for ever.

    A macro takes the place of the clock, since transformers passes no functions to templates.
    """
    if not date or _CLOCK not in source:
        return source
    day = datetime.fromisoformat(date)
    formats = [f"%{dash}{letter}" for letter in _DIRECTIVES for dash in ("", "-")]
    told = "".join(f".replace({form!r}, {day.strftime(form)!r})" for form in formats)
    return f"{{% macro {_CLOCK}(format) %}}{{{{ format{told} }}}}{{% endmacro %}}\n{source}"


def _folded(messages: Sequence[Message]) -> list[Message]:
    """Return messages with a system prompt at the top of what the user says first; an empty one is left out."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, rest = messages[0]["content"], list(messages[1:])
    if not system:
        return rest
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system}, *rest]
    return [{**rest[0], "content": on_top(system, rest[0]["content"])}, *rest[1:]]


def on_top(note: str, user_text: str) -> str:
    """Return a note before what the user says, in one message."""
    return f"{note}\n\n{user_text}"
