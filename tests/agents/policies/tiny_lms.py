"""Tiny random causal LMs of several architectures, a tokenizer, and what the tests of the `hf` policy compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from agentgym_rft.agents.policies.base import SampleRequest

VOCAB = 61
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": VOCAB}
_NO_IDS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}

SERVED: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: Qwen3Config(**_COMMON, head_dim=8),
    "llama": lambda: LlamaConfig(**_COMMON),
    "gpt2": lambda: GPT2Config(**_GPT2, **_NO_IDS),
    "gemma2": lambda: Gemma2Config(**_COMMON, head_dim=8, sliding_window=16),
    "gemma3": lambda: Gemma3TextConfig(**_COMMON, head_dim=8, sliding_window=16),
    "mistral": lambda: MistralConfig(**_COMMON, head_dim=8, sliding_window=12),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "mamba": lambda: MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, **_NO_IDS),
    "bloom": lambda: BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4, **_NO_IDS),
    "gpt-oss": lambda: GptOssConfig(**{**_COMMON, "head_dim": 8, "num_local_experts": 4}),
}


def make_model(name: str = "qwen3", seed: int = 0) -> Any:
    """A model whose weights are large enough that attention and positions shape the logits (standard deviation ~1)."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config({**SERVED, **REFUSED}[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    return model


def make_tokenizer(size: int = VOCAB) -> PreTrainedTokenizerFast:
    """Words w0, w1, ... have the ids 0, 1, ..."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def tokens(count: int, seed: int) -> list[int]:
    """Random ids."""
    return torch.randint(0, VOCAB, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def full_logprobs(model: Any, prompt: Sequence[int], ids: Sequence[int]) -> list[float]:
    """Log-probs of `ids` after `prompt` from one uncached forward pass of the model's own."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0].float()
    table = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return table.gather(1, torch.tensor(ids)[:, None]).squeeze(1).tolist()


def ask(key: str, prompt: Sequence[int], count: int = 5, temperature: float = 1.0, seed: int = 0) -> SampleRequest:
    """A request without stop ids."""
    return SampleRequest(key, prompt, count, (), temperature, seed)
