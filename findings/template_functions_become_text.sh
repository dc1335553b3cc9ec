#!/bin/sh
# transformers 5.24.0: a function that is given to a chat template by keyword reaches it as text.
#
# `apply_chat_template(..., **kwargs)` documents its keyword arguments as "additional kwargs to pass to the template
# renderer", and templates call `strftime_now` for the day they tell the model. To replay an episode token for token on
# another day, one gives them a clock that stands still: `strftime_now=datetime(2020, 2, 3).strftime`. Version 4.57.6
# renders the year 2020. Version 5.24.0 rebuilds every argument as plain data and turns the function into the text
# "<function>"; the template then calls a string.
#
# Output seen:
#   4.57.6: 2020
#   5.24.0: TypeError: 'str' object is not callable
#   5.24.0 shows the argument as: <builtin_function_or_method>
# Fails if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/render.py" <<'PYTHON'
from datetime import datetime

import transformers
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
messages = [{"role": "user", "content": "x"}]
clock = datetime(2020, 2, 3).strftime


def shown(template: str) -> str:
    try:
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, strftime_now=clock)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


print(f"{transformers.__version__}: {shown('{{ strftime_now(\"%Y\") }}')}")
print(f"{transformers.__version__} shows the argument as: {shown('{{ strftime_now }}')}")
PYTHON
for version in 4.57.6 5.24.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet "transformers==$version" "jinja2==3.1.6"
  "$folder/$version/bin/python" "$folder/render.py" 2> /dev/null
done | tee "$folder/seen"
grep -qx "4.57.6: 2020" "$folder/seen"
grep -qx "5.24.0: TypeError: 'str' object is not callable" "$folder/seen"
