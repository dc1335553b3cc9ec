#!/bin/sh
# transformers 5.24.0: a saved tokenizer splits text by another rule when the model beside it is a Qwen2.
#
# `save_pretrained` writes a tokenizer whose tokenizer.json holds GPT-2's byte-level rule, and names its class
# TokenizersBackend. `AutoTokenizer.from_pretrained` of that directory takes the class Qwen2Tokenizer once config.json
# says `"model_type": "qwen2"`, and that class brings a rule of its own, by which each digit is a token. Ids that were
# computed before saving and after reading differ without a word, for a policy with a tokenizer of its own in the shape
# of Qwen2 as well as for tests. With `"model_type": "llama"` the same files are read as they were saved.
#
# Output seen:
#   saved: ['call', 'Ġ2024', 'Ġnow']
#   llama: ['call', 'Ġ2024', 'Ġnow']
#   qwen2: ['call', 'Ġ', '2', '0', '2', '4', 'Ġnow']
# Fails if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/read.py" <<'PYTHON'
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

text = "call 2024 now"
bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
bpe.train_from_iterator([text] * 50, trainer)
print("saved:", bpe.encode(text).tokens)
for kind in ("llama", "qwen2"):
    folder = Path(sys.argv[1]) / kind
    PreTrainedTokenizerFast(tokenizer_object=bpe).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    print(f"{kind}:", AutoTokenizer.from_pretrained(folder).tokenize(text))
PYTHON
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "tokenizers==0.23.3"
"$folder/venv/bin/python" "$folder/read.py" "$folder" 2> /dev/null | tee "$folder/seen"
grep -qx "llama: \['call', 'Ġ2024', 'Ġnow'\]" "$folder/seen"
grep -qx "qwen2: \['call', 'Ġ', '2', '0', '2', '4', 'Ġnow'\]" "$folder/seen"
