"""Log-probs and full-vocabulary columns of the trained tokens, without the logits of all other positions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.functionals import VALUE, Functional
from agentgym_rft.trainers.packing import MicroBatch, pack
from agentgym_rft.trainers.table import Row

CHUNK_ELEMENTS = 2**24  # logits held at once, 64 MiB in float32


@dataclass(frozen=True, slots=True)
class Scores:
    """Per trained token: log-prob (nats) and the asked columns of the full next-token distribution, all [K]."""

    lp: Tensor
    columns: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores micro-batches with a causal language model. Make it with `make_scorer`."""

    model: PreTrainedModel
    body: nn.Module | None  # decoder without head; None: the model changes its logits after the head
    head: nn.Module | None
    bf16: bool = False
    value_head: nn.Linear | None = None  # of a critic that shares the model's body

    @property
    def device(self) -> torch.device:
        return _weight(self.model).device

    @property
    def dtype(self) -> torch.dtype:
        """Of log-probs and entropies: float32, or float64 for a float64 model."""
        return torch.promote_types(_weight(self.model).dtype, torch.float32)

    def score(
        self,
        batch: MicroBatch,
        functionals: Sequence[Functional] = (),
        *,
        grad: bool,
        with_grad: Collection[str] = (),
        value: bool = False,
    ) -> Scores:
        """Log-probs of `batch.targets` and the columns asked for, all [K] in at least float32.

        Args:
            functionals: of the next-token distribution at each target.
            grad: keep the graph of the log-probs.
            with_grad: names of functionals whose graph is kept, too; the others carry no gradient.
            value: add the value head's output, with its graph if `grad`.
        """
        batch = batch.to(self.device)
        with torch.set_grad_enabled(grad):
            with self._autocast():
                hidden, head = self._outputs(batch)
            scores = _scores(hidden, batch.targets, head, functionals, frozenset(with_grad if grad else ()))
            if value:
                assert self.value_head is not None
                values = self.value_head(hidden.to(self.value_head.weight.dtype))[:, 0]
                scores = Scores(scores.lp, {**scores.columns, VALUE: values})
        return scores

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


def make_scorer(model: PreTrainedModel, *, bf16: bool = False, value_head: nn.Linear | None = None) -> Scorer:
    """A scorer for any Hugging Face causal language model; puts the model in eval mode (no dropout).

    Whether head(body(ids)) gives the model's logits is tried once on a few ids. Where it does not (soft-capped or
    scaled logits) the scorer uses the model's own logits at every position, which costs more memory.

    Raises:
        ConfigError: such a model is to have a value head.
    """
    model.eval()
    body, head = model.base_model, model.get_output_embeddings()
    if head is None or body is model or not _is_plain(model, body, head):
        if value_head is not None:
            raise ConfigError("A critic needs a model whose logits are its head on its last hidden state.")
        return Scorer(model, None, None, bf16)
    return Scorer(model, body, head, bf16, value_head)


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


def _scores(
    hidden: Tensor,
    targets: Tensor,
    head: Callable[[Tensor], Tensor],
    functionals: Sequence[Functional],
    with_grad: frozenset[str],
) -> Scores:
    """Scores in chunks; with several chunks and a graph, each chunk's logits are recomputed in the backward pass."""

    def score(hidden: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        return _score_chunk(head(hidden), targets, functionals, with_grad)

    chunk = max(1, CHUNK_ELEMENTS // _vocabulary(head, hidden))
    pieces: list[tuple[Tensor, ...]] = []
    for start in range(0, max(len(targets), 1), chunk):
        piece = hidden[start : start + chunk], targets[start : start + chunk]
        is_recomputed = len(targets) > chunk and hidden.requires_grad
        pieces.append(checkpoint(score, *piece, use_reentrant=False) if is_recomputed else score(*piece))
    lp, *columns = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True))
    names = [functional.name for functional in functionals]
    return Scores(lp, dict(zip(names, columns, strict=True)))


@torch.no_grad()
def _vocabulary(head: Callable[[Tensor], Tensor], hidden: Tensor) -> int:
    return head(hidden[:1]).shape[-1]


def _score_chunk(
    logits: Tensor, targets: Tensor, functionals: Sequence[Functional], with_grad: frozenset[str]
) -> tuple[Tensor, ...]:
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    log_probs = torch.log_softmax(logits, dim=-1)  # [k, V]
    lp = log_probs.gather(-1, targets[:, None])[:, 0]
    if not functionals:
        return (lp,)
    columns: list[Tensor] = []
    with torch.set_grad_enabled(bool(with_grad)):
        probs = log_probs.exp()
    for functional in functionals:
        with torch.set_grad_enabled(functional.name in with_grad):
            columns.append(functional.fn(log_probs, probs))
    return (lp, *columns)


@torch.no_grad()
def score_rows(
    scorer: Scorer,
    rows: Sequence[Row],
    num_tokens: int,
    micro_batch_tokens: int,
    functionals: Sequence[Functional] = (),
    *,
    value: bool = False,
) -> Scores:
    """Scores of all table entries of `rows`, [num_tokens], without gradient; zero for entries not in `rows`."""
    lp = torch.zeros(num_tokens, dtype=scorer.dtype, device=scorer.device)
    names = [functional.name for functional in functionals] + ([VALUE] if value else [])
    columns = {name: torch.zeros_like(lp) for name in names}
    for batch in pack(rows, micro_batch_tokens):
        scores = scorer.score(batch, functionals, grad=False, value=value)
        index = batch.index.to(scorer.device)
        lp[index] = scores.lp
        for name, column in columns.items():
            column[index] = scores.columns[name].to(column.dtype)
    return Scores(lp, columns)
