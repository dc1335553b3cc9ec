"""Refuses models whose packed forward pass gives other results than their own, and requests that are not valid."""

from __future__ import annotations

from typing import Any

import torch

from agentgym_rft.agents.policies.base import SampleRequest
from agentgym_rft.agents.policies.ragged import RaggedModel, Segment
from agentgym_rft.errors import ConfigError, PolicyError

DEFAULT_MAX_CONTEXT = 4096  # tokens, for models that state no limit
_PROBE_LENGTH = 24
_INVARIANCE_LENGTH = 300  # more than two blocks of keys
_LAYER_TYPES = {"full_attention", "sliding_attention"}
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}


def context_limit(config: Any, max_context: int | None, key: str = "policy.max_context") -> int:
    """Longest row in tokens: what was asked for under a configuration key, else the model's own limit.

    Raises:
        ConfigError: the model cannot have rows as long as asked for.
    """
    limit = config.to_dict().get("max_position_embeddings")
    if max_context is None:
        return DEFAULT_MAX_CONTEXT if limit is None else int(limit)
    if max_context < 2 or (limit is not None and max_context > limit):
        allowed = f"2 to {limit or 'any number of'} tokens"
        raise ConfigError(f"max_context is {max_context}; the model allows {allowed}. Set {key} to fit it.")
    return max_context


def check_request(request: SampleRequest, max_context: int, vocabulary: int) -> None:
    """Raise `PolicyError` for a request that no policy of this context and vocabulary can answer."""
    key, num_prompt = request.cache_key, len(request.prompt_ids)
    length = num_prompt + request.max_new_tokens
    if num_prompt < 1 or request.max_new_tokens < 1:
        raise PolicyError(
            f"'{key}' asks for {request.max_new_tokens} tokens after a prompt of {num_prompt}; expected at least 1."
        )
    if not 0.0 <= request.temperature < float("inf"):
        raise PolicyError(f"'{key}' has temperature {request.temperature}; expected 0 (greedy) or a positive number.")
    if length > max_context:
        raise PolicyError(
            f"The row of '{key}' would have {length} tokens ({num_prompt} in the prompt and up to "
            f"{request.max_new_tokens} new), more than max_context {max_context}. Use a context strategy "
            "that keeps fewer turns, or fewer steps an episode."
        )
    if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= vocabulary:
        raise PolicyError(
            f"The prompt of '{key}' has token ids from {min(request.prompt_ids)} to {max(request.prompt_ids)}, but "
            f"the model knows 0 to {vocabulary - 1}. Is the tokenizer of another model?"
        )


def check_model(ragged: RaggedModel, max_context: int) -> None:
    """Compare the packed pass with the model's own forward on a few tokens, and leaves the pool empty.

    Raises:
        PolicyError: the model fails in the packed pass, gives other logits there, or has a sliding window that its
            attention does not ask for; or it should be invariant and is not.
    """
    _check_config(ragged.model.config)
    vocab = ragged.model.get_input_embeddings().num_embeddings
    length = min(_PROBE_LENGTH, max_context)
    tokens = torch.arange(length, device=ragged.device).mul_(7919).add_(13).remainder_(vocab)
    name = type(ragged.model).__name__
    try:
        with torch.inference_mode():
            expected = ragged.model(input_ids=tokens.unsqueeze(0), use_cache=False).logits[0].float()  # [n, V]
        got, windows = _packed_logits(ragged, tokens.tolist())
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise PolicyError(f"{name} cannot be served by the hf policy: {type(error).__name__}: {error}") from error
    finally:
        ragged.pool.clear()
    _check_windows(ragged.model.config, windows, max_context)
    expected = expected[[length // 2 - 1, length - 1, length - 2]]
    if not torch.isfinite(expected).all():
        raise PolicyError(f"The logits of {name} are not finite; its weights are damaged.")
    tolerance = (1e-3 if got.dtype == torch.float32 else 0.1) * float(expected.abs().max())
    drift = float((got.float() - expected).abs().max())
    if not drift <= tolerance:
        raise PolicyError(
            f"{name} cannot be served by the hf policy: with cached rows its logits differ by {drift:.2g} from its own "
            "forward pass. It keeps a state or uses an attention that is not plain keys and values."
        )
    if ragged.is_invariant:
        _check_invariance(ragged, max_context)


def _check_invariance(ragged: RaggedModel, max_context: int) -> None:
    """Compare, bit by bit, the logits of a row that is fed alone with those of one that is fed in parts among others.

    Raises `PolicyError` if they differ: some layer of the model, or this machine, sums otherwise in another batch.
    """
    vocab = ragged.model.get_input_embeddings().num_embeddings
    length = min(_INVARIANCE_LENGTH, max_context)
    row = [(token * 7919 + 13) % vocab for token in range(length)]
    others = [(token * 104729 + 7) % vocab for token in range(length)]
    ragged.pool.reserve(7, length)
    try:
        alone, _, _ = ragged.forward([Segment(0, 0, row[: length // 2])])
        alone = torch.cat([alone, ragged.forward([Segment(0, length // 2, row[length // 2 :])])[0]])
        ragged.forward([Segment(6, 0, row[: length // 4], wants_logits=False), Segment(3, 0, others[: length // 3])])
        middle = [
            Segment(6, length // 4, row[length // 4 : length // 2]),
            Segment(2, 0, others[:1]),
            Segment(1, 0, row),
        ]
        first = _logits_of(ragged, middle, 6)
        ragged.forward([Segment(6, length // 2, row[length // 2 : -1], wants_logits=False), Segment(2, 1, others[1:2])])
        single = [Segment(slot, place, others[place : place + 1]) for slot, place in ((3, length // 3), (2, 2))]
        last = _logits_of(ragged, [*single, Segment(6, length - 1, row[-1:])], 6)
    finally:
        ragged.pool.clear()
    if not torch.equal(torch.stack([first, last]), alone):
        drift = float((torch.stack([first, last]) - alone).abs().max())
        raise PolicyError(
            f"{type(ragged.model).__name__} cannot sample deterministically on {ragged.device}: among other rows its "
            f"logits differ by {drift:.2g} from those of the row alone. Set policy.deterministic to false."
        )


def _logits_of(ragged: RaggedModel, segments: list[Segment], slot: int) -> torch.Tensor:
    logits, slots, _ = ragged.forward(segments)
    return logits[slots.index(slot)]


def _packed_logits(ragged: RaggedModel, ids: list[int]) -> tuple[torch.Tensor, dict[int, int | None]]:
    """Return logits after half, all, and all but one of the tokens, fed as a long part, single tokens and two rows at
    once.
    """
    half, length = len(ids) // 2, len(ids)
    ragged.pool.reserve(2, length)
    first, _, _ = ragged.forward([Segment(0, 0, ids[:half]), Segment(1, 0, ids[: length - 2], wants_logits=False)])
    ragged.forward([Segment(0, half, ids[half : length - 1], wants_logits=False)])
    both, slots, batch = ragged.forward([Segment(0, length - 1, ids[-1:]), Segment(1, length - 2, ids[-2:-1])])
    assert slots == [0, 1]
    return torch.cat([first, both]), batch.windows


def _check_config(config: Any) -> None:
    values = config.get_text_config().to_dict()
    other = set(values.get("layer_types") or ()) - _LAYER_TYPES
    if other:
        raise PolicyError(f"The hf policy serves full and sliding attention; the model has {', '.join(sorted(other))}.")
    rope = values.get("rope_parameters") or {}
    kinds = {str(part.get("rope_type")) for part in [rope, *rope.values()] if isinstance(part, dict)}
    unfit = sorted(kinds & _LENGTH_DEPENDENT_ROPE)
    if unfit:
        raise PolicyError(
            f"The model's rotary positions change with the longest row of a batch ({', '.join(unfit)}), so rows would "
            "depend on each other. Set a fixed rope_type in its config."
        )


def _check_windows(config: Any, windows: dict[int, int | None], max_context: int) -> None:
    """A window that the model keeps only in its mask would be lost: the packed pass builds no mask."""
    values = config.get_text_config().to_dict()
    window = values.get("sliding_window")
    if window is None or values.get("use_sliding_window") is False or window >= max_context:
        return
    types = values.get("layer_types") or ["sliding_attention"] * len(windows)
    silent = [i for i, kind in enumerate(types) if kind == "sliding_attention" and windows.get(i) is None]
    if silent:
        raise PolicyError(
            f"The model's layers {silent} have a sliding window of {window} tokens that their attention does not ask "
            f"for; set max_context to at most {window}."
        )
