"""Makes tokenizers for chat templates that come without one: a small byte-level BPE with the tokens that they name.

Real checkpoints differ in how they flag the same tokens, so a template is tried with several `Flags`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# As Qwen and Llama 3 split text: line breaks merge with the punctuation before them.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL = re.compile(
    r"<\|[^|<>\s'\"{}]{1,40}\|>|<｜[^｜<>\s'\"{}]{1,40}｜>|<\|[a-z_]{2,30}>|<[a-z_]{2,30}\|>"
    r"|</?(?:s|user|assistant|system)>|<seed:(?:bos|eos)>|<SPECIAL_\d+>|\[\|[a-z]+\|\]|\]~[a-z!]+\[|\]~b\]|\[e~\["
    r"|<bos>|<eos>|<(?:start|end|beginning)_of_(?:turn|utterance|sentence)>|<extra_id_\d>"
    r"|\[/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|ARGS|gMASK)\]"
)
_BEGINS = ("<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "<bos>")
_DOCUMENT_ENDS = ("<｜end▁of▁sentence｜>", "<|endoftext|>", "<eos>", "</s>")


@dataclass(frozen=True)
class Flags:
    """How a checkpoint declares the tokens of its template.

    Args:
        eos: the end-of-sequence token is the template's end of turn ("turn") or the end of a document ("document").
        has_special_turn: the end of turn is flagged special; otherwise it is only added.
        thoughts: the tags around thoughts are "special" tokens, only "added" ones, or plain "text".
        has_generation_config: `generation_config.json` lists the ends of turn and document.
    """

    name: str
    eos: str = "turn"
    has_special_turn: bool = True
    thoughts: str = "added"
    has_generation_config: bool = False


USUAL = Flags("usual")
FLAGS = (
    USUAL,
    Flags("document eos", eos="document", thoughts="special"),
    Flags("unflagged end", eos="document", has_special_turn=False, thoughts="text"),
    Flags("generation config", eos="document", has_generation_config=True),
)


def control_tokens(*texts: str) -> list[str]:
    """Return the control tokens in texts, in order of appearance."""
    return list(dict.fromkeys(found for text in texts for found in _CONTROL.findall(text)))


def make_tokenizer(
    folder: Path, template: str, tokens: Sequence[str], tags: Sequence[str], turn_end: str, flags: Flags
) -> None:
    """Write a tokenizer with a chat template into a folder.

    Args:
        tokens: control tokens of the template.
        tags: tags around thoughts.
        turn_end: the token that ends a turn, "" if there is none.
    """
    document_end = next((end for end in _DOCUMENT_ENDS if end in tokens), "</s>")
    # A template that writes `eos_token` shows which one it is.
    is_named = "eos_token" in template and not turn_end
    eos = turn_end if flags.eos == "turn" and turn_end and not is_named else document_end
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_bpe(template),
        bos_token=next((begin for begin in _BEGINS if begin in tokens), "<s>"),
        eos_token=eos,
        clean_up_tokenization_spaces=False,
        chat_template=template,
    )
    plain = set() if flags.has_special_turn else {turn_end} - {eos}
    special = [token for token in (*tokens, document_end) if token not in plain and token not in tags]
    tokenizer.add_tokens(_added(special, special=True), special_tokens=True)
    tokenizer.add_tokens(_added(sorted(plain - {""}), special=False))
    if flags.thoughts != "text":
        is_special = flags.thoughts == "special"
        tokenizer.add_tokens(_added(tags, special=is_special), special_tokens=is_special)
    tokenizer.save_pretrained(folder)
    if flags.has_generation_config:
        ends = tokenizer.convert_tokens_to_ids([document_end, *([turn_end] if turn_end else [])])
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(dict.fromkeys(ends))}))


def _added(tokens: Sequence[str], *, special: bool) -> list[AddedToken]:
    return [AddedToken(token, special=special, normalized=False) for token in dict.fromkeys(tokens)]


def _bpe(template: str) -> Any:
    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    texts = [_CONTROL.sub("", template), *(_COMMON * 3)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False))
    return bpe


_COMMON = (
    "<think>\nI should look.\n</think>\n\n<action>look</action>\n",
    "You are in the middle of a room.\nYou see a desk 1.\n\n> look\nNothing happens.\n",
    "user\nassistant\nsystem\n look go to desk 1\n\n",
)
