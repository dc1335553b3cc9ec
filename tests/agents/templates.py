"""Small chat templates, one for each thing in which those of real models differ, and tokenizers for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken

from agentgym_rft.trainers.sft.model import train_tokenizer

TEXTS = ["You are in the middle of a room.", "go to desk 1", "take mug 2 from shelf 3", "look", "Nothing happens."]
CONTROL = ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
DOCUMENT_END = "<|document|>"
THINK_TAGS = ("<think>", "</think>")


def template(
    *, shown: str = "c", end: str = "<|end|>", prompt: str = "<|assistant|>", first: str = "", gap: str = ""
) -> str:
    """Return a template for turns `<|role|>words<|end|>`.

    Args:
        shown: the expression for an assistant's words `c`.
        end: what follows an assistant's words.
        prompt: what `add_generation_prompt` adds.
        first: statements before the first message.
        gap: what stands between an assistant's header and its words.
    """
    return (
        f"{first}{{%- for m in messages -%}}{{%- set c = m['content'] -%}}"
        f"{{%- if m['role'] == 'assistant' -%}}{{{{ '<|assistant|>{gap}' + ({shown}) + '{end}' }}}}"
        "{%- else -%}{{ '<|' + m['role'] + '|>' + c + '<|end|>' }}{%- endif -%}{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{ '{prompt}' }}}}{{%- endif -%}}"
    )


_DROPPED = "c.split('</think>')[-1] if not loop.last else c"
_KEPT = "'<think>' + m['reasoning_content'] + '</think>' + c if m['reasoning_content'] else c"

GROWING = template()
FORGETS_THOUGHTS = template(shown=_DROPPED)
OPENS_THOUGHT = template(shown="c.split('</think>')[-1]", prompt="<|assistant|><think>\\n")
OPENS_AND_KEEPS_THOUGHT = template(prompt="<|assistant|><think>\\n")
CLOSES_THOUGHT = template(
    shown="c.split('</think>')[-1]",
    prompt="<|assistant|><think>\\n\\n</think>\\n\\n",
    gap="<think>\\n\\n</think>\\n\\n",
)
THOUGHT_IN_A_FIELD = template(shown=_KEPT)
BREAK_BEFORE_END = template(end="\\n<|end|>\\n")
TWO_ENDS = template(end="<|done|><|end|>")
NEXT_HEADER_ENDS = template(end="").replace(" + c + '<|end|>'", " + c")
NO_END = "{%- for m in messages -%}{{ m['role'] + ': ' + m['content'] + '\\n' }}{%- endfor -%}{{ 'assistant: ' }}"
SPACED = template(gap=" ")
NO_SYSTEM = template(first="{%- if messages[0]['role'] == 'system' -%}{{ raise_exception('No system.') }}{%- endif -%}")
DROPS_SYSTEM = template(first="{%- set messages = messages | rejectattr('role', 'equalto', 'system') | list -%}")
NO_PROMPT = template(prompt="")
SWITCHED_THOUGHT = template(
    shown="c.split('</think>')[-1]",
    prompt="' + ('<|assistant|><think></think>' if enable_thinking is false else '<|assistant|>') + '",
)
JOINS_LINES = template().replace("+ c + '<|end|>'", "+ c.replace('\\n\\n', '\\n') + '<|end|>'")
BREAKS = template(first="{{ 1 + messages[0]['content'] }}")
FOR_TOOLS = template(first="{%- for tool in tools -%}{{ tool }}{%- endfor -%}")
TAKES_PARTS = template().replace("set c = m['content']", "set c = m['content'][0].text")
CHANNELS = (
    "{%- for m in messages -%}{%- if m['role'] != 'assistant' -%}"
    "{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}"
    "{%- else -%}{%- if '<|channel|>' in m['content'] -%}{{ raise_exception('No channels in content.') }}{%- endif -%}"
    "{%- if m.thinking and loop.last -%}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif -%}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|start|>assistant' }}{%- endif -%}"
)
CHANNEL_TOKENS = ("<|start|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>")


def tokenizer_for(
    chat_template: str | None, *, eos: str = "<|end|>", special: Sequence[str] = (), added: Sequence[str] = ()
) -> Any:
    """Return a tokenizer with a chat template.

    Args:
        eos: the end-of-sequence token; added as a special one if it is new.
        special: further tokens, flagged special.
        added: further tokens that are only added.
    """
    tokenizer = train_tokenizer(TEXTS, 400)
    new_eos = [] if eos in (*CONTROL, *special) else [eos]
    tokens = [AddedToken(token, special=True, normalized=False) for token in (*new_eos, *special)]
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    tokenizer.eos_token = eos
    tokenizer.chat_template = chat_template
    return tokenizer
