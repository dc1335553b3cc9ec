"""Log-probs and entropy of the trained tokens under a model, without the logits of all other positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from agentgym_rft.trainers.packing import MicroBatch, pack
from agentgym_rft.trainers.table import Row

CHUNK_ELEMENTS = 2**24  # logits held at once, 64 MiB in float32


@dataclass(frozen=True, slots=True)
class Scores:
    """Per trained token: log-prob and entropy of the full next-token distribution, in nats, [K]."""

    lp: Tensor
    entropy: Tensor | None


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores micro-batches with a causal language model. Make it with `make_scorer`."""

    model: PreTrainedModel
    body: nn.Module | None  # decoder without head; None: the model changes its logits after the head
    head: nn.Module | None
    bf16: bool = False

    @property
    def device(self) -> torch.device:
        return _weight(self.model).device

    @property
    def dtype(self) -> torch.dtype:
        """Of log-probs and entropies: float32, or float64 for a float64 model."""
        return torch.promote_types(_weight(self.model).dtype, torch.float32)

    def score(self, batch: MicroBatch, *, need_entropy: bool, grad: bool, entropy_grad: bool = False) -> Scores:
        """Log-probs of `batch.targets` and, if asked for, entropies, both [K] in at least float32.

        Args:
            grad: keep the graph of the log-probs.
            entropy_grad: keep that of the entropies, too; else they carry no gradient and cost one pass less.
        """
        batch = batch.to(self.device)
        with torch.set_grad_enabled(grad):
            with self._autocast():
                hidden, head = self._outputs(batch)
            return _log_probs(hidden, batch.targets, head, need_entropy, grad and entropy_grad)

    def _outputs(self, batch: MicroBatch) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Vectors at the predicting positions, and the function that turns them into logits."""
        if self.body is None or self.head is None:
            logits = self.model(input_ids=batch.input_ids, use_cache=False).logits
            return logits.flatten(0, 1)[batch.predictors], _identity
        hidden = self.body(input_ids=batch.input_ids, use_cache=False).last_hidden_state
        return hidden.flatten(0, 1)[batch.predictors], self._apply_head

    def _apply_head(self, hidden: Tensor) -> Tensor:
        assert self.head is not None
        with self._autocast():
            logits: Tensor = self.head(hidden)
        return logits

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext()


def make_scorer(model: PreTrainedModel, *, bf16: bool = False) -> Scorer:
    """A scorer for any Hugging Face causal language model; puts the model in eval mode (no dropout).

    Whether head(body(ids)) gives the model's logits is tried once on a few ids. Where it does not (soft-capped or
    scaled logits) the scorer uses the model's own logits at every position, which costs more memory.
    """
    model.eval()
    body, head = model.base_model, model.get_output_embeddings()
    if head is None or body is model or not _is_plain(model, body, head):
        return Scorer(model, None, None, bf16)
    return Scorer(model, body, head, bf16)


@torch.no_grad()
def _is_plain(model: PreTrainedModel, body: nn.Module, head: nn.Module) -> bool:
    weight = _weight(model)
    ids = torch.arange(8, device=weight.device).remainder(model.config.get_text_config().vocab_size)[None]
    logits = model(input_ids=ids, use_cache=False).logits.float()
    ours = head(body(input_ids=ids, use_cache=False).last_hidden_state).float()
    tolerance = 1e-5 if weight.dtype in (torch.float32, torch.float64) else 1e-2
    return ours.shape == logits.shape and torch.allclose(ours, logits, rtol=tolerance, atol=tolerance)


def _weight(model: nn.Module) -> Tensor:
    return next(model.parameters())


def _identity(logits: Tensor) -> Tensor:
    return logits


def _log_probs(
    hidden: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], need_entropy: bool, entropy_grad: bool
) -> Scores:
    """Scores in chunks; with several chunks and a graph, each chunk's logits are recomputed in the backward pass."""

    def score(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        return _score_chunk(head(hidden), targets, need_entropy, entropy_grad)

    chunk = max(1, CHUNK_ELEMENTS // _vocabulary(head, hidden))
    if len(targets) <= chunk:
        return Scores(*score(hidden, targets))
    lps: list[Tensor] = []
    entropies: list[Tensor] = []
    for start in range(0, len(targets), chunk):
        piece = hidden[start : start + chunk], targets[start : start + chunk]
        lp, entropy = checkpoint(score, *piece, use_reentrant=False) if hidden.requires_grad else score(*piece)
        lps.append(lp)
        if entropy is not None:
            entropies.append(entropy)
    return Scores(torch.cat(lps), torch.cat(entropies) if need_entropy else None)


@torch.no_grad()
def _vocabulary(head: Callable[[Tensor], Tensor], hidden: Tensor) -> int:
    return head(hidden[:1]).shape[-1]


def _score_chunk(
    logits: Tensor, targets: Tensor, need_entropy: bool, entropy_grad: bool
) -> tuple[Tensor, Tensor | None]:
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    log_probs = torch.log_softmax(logits, dim=-1)  # [k, V]
    lp = log_probs.gather(-1, targets[:, None])[:, 0]
    if not need_entropy:
        return lp, None
    with torch.set_grad_enabled(entropy_grad):
        entropy = -(log_probs.exp() * log_probs).sum(-1)
    return lp, entropy


@torch.no_grad()
def score_rows(
    scorer: Scorer, rows: Sequence[Row], num_tokens: int, micro_batch_tokens: int, *, need_entropy: bool
) -> Scores:
    """Scores of all table entries of `rows`, [num_tokens], without gradient; zero for entries not in `rows`."""
    lp = torch.zeros(num_tokens, dtype=scorer.dtype, device=scorer.device)
    entropy = torch.zeros_like(lp) if need_entropy else None
    for batch in pack(rows, micro_batch_tokens):
        scores = scorer.score(batch, need_entropy=need_entropy, grad=False)
        index = batch.index.to(scorer.device)
        lp[index] = scores.lp
        if entropy is not None and scores.entropy is not None:
            entropy[index] = scores.entropy
    return Scores(lp, entropy)
