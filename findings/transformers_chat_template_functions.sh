#!/usr/bin/env bash
# transformers 5.24.0: a function passed to apply_chat_template as a template variable arrives as the text "<function>".
#
# Many chat templates tell the model the day: {{ strftime_now("%d %b %Y") }}. transformers gives them a clock under that
# name. To render the same conversation to the same tokens on another day, one would pass a clock of one's own,
# apply_chat_template(..., strftime_now=clock): variables override globals in jinja. But transformers first rebuilds all that
# a template sees out of plain JSON types (_plain_template_data), and a function becomes a placeholder, so the call fails with
#   TypeError: 'str' object is not callable
# What works: to write the day into the template's own text, and pass that as chat_template=.
#
# Output seen (Python 3.11):
#   variable {{ strftime_now }}   -> <function>
#   call {{ strftime_now("%Y") }} -> TypeError: 'str' object is not callable
#   day written into the template -> 2020
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "jinja2==3.1.6" "numpy<3"
"$folder/venv/bin/python" - <<'PY'
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
talk = [{"role": "user", "content": "hello"}]


def shown(template, **variables):
    try:
        return tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False, **variables)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def clock(form):
    return "2020"


variable = shown("{{ strftime_now }}", strftime_now=clock)
call = shown('{{ strftime_now("%Y") }}', strftime_now=clock)
written = shown('{{ "2020" }}')
print("variable {{ strftime_now }}   ->", variable)
print('call {{ strftime_now("%Y") }} ->', call)
print("day written into the template ->", written)
assert variable == "<function>", "functions reach templates again: the day could be passed as a clock"
assert call == "TypeError: 'str' object is not callable"
assert written == "2020"
PY
