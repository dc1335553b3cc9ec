from __future__ import annotations

import pytest

from agentgym_rft.trainers.sft.model import train_tokenizer

TEXTS = ["You are in the middle of a room.", "go to desk 1", "take mug 2 from shelf 3", "look", "Nothing happens."]

# Like Qwen3's: thoughts of earlier replies are dropped once the user has spoken again.
FORGETFUL_TEMPLATE = (
    "{%- for m in messages -%}"
    "{%- set c = m['content'] -%}"
    "{%- if m['role'] == 'assistant' and not loop.last -%}{%- set c = c.split('</think>')[-1] -%}{%- endif -%}"
    "{{ '<|' + m['role'] + '|>' + c }}{%- if m['role'] == 'assistant' -%}{{ '<|end|>' }}{%- endif -%}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(TEXTS, 400)


@pytest.fixture
def forgetful_tokenizer():
    tokenizer = train_tokenizer(TEXTS, 400)
    tokenizer.chat_template = FORGETFUL_TEMPLATE
    return tokenizer
