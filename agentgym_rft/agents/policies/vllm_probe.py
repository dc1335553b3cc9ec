"""Checks that an engine samples from the weights it was given, by a forward pass of transformers with the same weights.

An engine that loaded weights wrongly still answers fluently and reports no error (see `vllm_worker.py`). So this check
runs after every load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.errors import PolicyError

PROMPT_TOKENS = 24
NEW_TOKENS = 16
_NUM_NAMED = 3  # names shown in a message


class Reference(Protocol):
    """Computes log-probs without the engine."""

    def logprobs(self, weights: Mapping[str, torch.Tensor], ids: Sequence[int]) -> torch.Tensor:
        """Return log-probs of the token after each of `ids`, [len(ids), vocabulary].

        Raises `PolicyError` for other weights.
        """
        ...


class ModelReference:
    """Computes log-probs by a transformers model with given weights.

    It keeps the model's structure, not its weights.
    """

    def __init__(self, model: Any) -> None:
        tied: dict[int, list[str]] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            tied.setdefault(id(tensor), []).append(name)
        self._names = list(tied.values())
        self._shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        self._buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        hollow = {id(parameter): _hollow(parameter) for parameter in model.parameters()}
        self._model = deepcopy(model, dict(hollow)).eval()

    def check(self, weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the weights with all names of tied ones. Raises `PolicyError` if they are not those of this model."""
        unknown = [name for name in weights if name not in self._shapes]
        if unknown:
            raise PolicyError(f"The model has no weights named {_some(unknown)}.")
        found = [(names, next((name for name in names if name in weights), None)) for names in self._names]
        missing = [names[0] for names, given in found if given is None]
        if missing:
            raise PolicyError(f"The new weights lack {_some(missing)}.")
        for name, tensor in weights.items():
            if not isinstance(tensor, torch.Tensor) or tensor.shape != self._shapes[name]:
                given_as = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise PolicyError(
                    f"'{name}' is {given_as}; the model has a tensor of shape {tuple(self._shapes[name])}."
                )
        return {name: weights[given] for names, given in found if given is not None for name in names}

    def distinct(self, weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the checked weights, tied ones under the first of their names only."""
        given = self.check(weights)
        return {names[0]: given[names[0]] for names in self._names}

    def logprobs(self, weights: Mapping[str, torch.Tensor], ids: Sequence[int]) -> torch.Tensor:
        """Return see `Reference`. Computed where the weights are, in their type."""
        given = self.check(weights)
        device = next(iter(given.values())).device
        buffers = {name: buffer.to(device) for name, buffer in self._buffers.items()}
        inputs = {"input_ids": torch.tensor([list(ids)], device=device), "use_cache": False}
        with torch.inference_mode():
            output = torch.func.functional_call(self._model, {**buffers, **given}, (), inputs, tie_weights=False)
            table: torch.Tensor = output.logits[0].float().log_softmax(-1).cpu()  # [n, V]
        return table


def _hollow(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


@dataclass(frozen=True, slots=True)
class Drift:
    """The distance of an engine from the reference on the probe's tokens, in nats.

    `logprob`: the largest difference of a sampled token's log-prob. `greedy`: how much likelier, for the reference, its
    own best token is than the engine's best token; 0 where both agree.
    """

    logprob: float
    greedy: float

    @property
    def worst(self) -> float:
        return max(self.logprob, self.greedy)


def probe_request(key: str, vocabulary: int, max_context: int) -> SampleRequest:
    """Return a greedy request over tokens from all over the vocabulary; at most `max_context` in all."""
    num_new = min(NEW_TOKENS, max(max_context // 2, 1))
    num_prompt = max(min(PROMPT_TOKENS, max_context - num_new), 1)
    ids = tuple((7919 * position + 13) % vocabulary for position in range(num_prompt))
    return SampleRequest(key, ids, num_new, (), temperature=0.0)


def measure_drift(
    reference: Reference, weights: Mapping[str, torch.Tensor], request: SampleRequest, answer: Completion
) -> Drift:
    """Return the distance of the engine's greedy answer to a probe from the reference with the weights that it was
    given.
    """
    row = [*request.prompt_ids, *answer.ids]
    table = reference.logprobs(weights, row)[len(request.prompt_ids) - 1 : -1]  # [n, V]
    expected = table.gather(1, torch.tensor(answer.ids)[:, None]).squeeze(1)
    logprob = (expected - torch.tensor(answer.logprobs)).abs().max()
    greedy = (table.max(dim=-1).values - expected).max()
    return Drift(float(logprob), float(greedy))


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_NUM_NAMED])
    return shown + (f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else "")
