"""Writes small GGUF files as llama.cpp's converter does: a random model with a byte-level BPE vocabulary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, _, END_OF_TURN = range(3)
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXT = ["The lamp is red. Press the switch, then look at the lamp.", "Task 12, 2 turns left.", "user system assistant"]
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


_CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config}


def make_model(vocab_size: int, architecture: str = "llama") -> Any:
    """A random model, the same at each call, whose weights are large enough to shape what it says."""
    torch.manual_seed(0)
    config = _CONFIGS[architecture](
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    return model


def make_bpe() -> Tokenizer:
    """A byte-level vocabulary of some 300 tokens, the special ones first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT * 3, trainer)
    return tokenizer


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    kind: str = "model",
    template: str | None = TEMPLATE,
    pre: str = "gpt-2",
    ends: tuple[int, int | None] = (END_OF_TURN, None),
    quantized: bool = False,
    skip: tuple[str, ...] = (),
) -> Path:
    """Write a GGUF file; each argument makes it another kind of file.

    Args:
        architecture: any name but `qwen2` holds a Llama.
        pre: how text is split before its pieces are merged.
        ends: the end of sequence, and that of a turn where it is another.
        quantized: matrices in blocks of eight bits, else everything in float32.
        skip: what is left out: `weights`, `tokenizer`, or tensors by llama.cpp's names.
    """
    tokenizer = make_bpe()
    model = make_model(tokenizer.get_vocab_size(), architecture if architecture in _CONFIGS else "llama")
    writer = GGUFWriter(path, architecture)
    writer.add_type(kind)
    _add_shape(writer, model.config)
    if "tokenizer" not in skip:
        _add_tokenizer(writer, tokenizer, pre, *ends)
    if template is not None:
        writer.add_chat_template(template)
    for name, weights in _tensors(model).items() if "weights" not in skip else ():
        if quantized and weights.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(weights, Kind.Q8_0), raw_dtype=Kind.Q8_0)
        elif name not in skip:
            writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_part(path: Path) -> Path:
    """Write the first of two parts of a model, which holds everything but the weights."""
    writer = GGUFWriter(path, "llama")
    writer.add_uint16("split.count", 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def _tensors(model: Any) -> dict[str, np.ndarray]:
    """The weights by llama.cpp's names, queries and keys of a Llama in its order of rows."""
    tensors = {}
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    for name, weights in model.state_dict().items():
        stem, _, ending = name.rpartition(".")
        layer = ""
        if stem.startswith("model.layers."):
            number, _, stem = stem.removeprefix("model.layers.").partition(".")
            layer = f"blk.{number}."
        values, name = weights.numpy(), _NAMES[stem]
        if name in heads and model.config.model_type == "llama":
            values = values.reshape(heads[name], 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        tensors[f"{layer}{name}.{ending}"] = np.ascontiguousarray(values)
    return tensors


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer, pre: str, eos: int, eot: int | None) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(END_OF_TEXT)
    writer.add_eos_token_id(eos)
    writer.add_pad_token_id(END_OF_TEXT)
    writer.add_add_bos_token(False)
    if eot is not None:
        writer.add_eot_token_id(eot)
