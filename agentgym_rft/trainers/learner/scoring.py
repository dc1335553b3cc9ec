"""Computes log-probs and full-vocabulary statistics of the trained tokens, without the logits of other positions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms.distribution_stats import VALUE, DistributionStat
from agentgym_rft.trainers.batch.packing import Layout, MicroBatch, deal
from agentgym_rft.trainers.batch.table import Row
from agentgym_rft.trainers.learner.packed_attention import check_packing, packed_rows
from agentgym_rft.trainers.learner.processes import ALONE, Ranks

CHUNK_ELEMENTS = 2**24  # logits held at once, 64 MiB in float32
Outputs = tuple[Tensor, Callable[[Tensor], Tensor]]  # vectors where tokens are predicted, and what makes logits of them


@dataclass(frozen=True, slots=True)
class Scores:
    """Per trained token: log-prob (nats) and the asked columns of the full next-token distribution, all [K]."""

    logprobs: Tensor
    columns: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores micro-batches with a causal language model. Make it with `make_scorer`."""

    model: PreTrainedModel
    body: nn.Module | None  # decoder without its head; None: the model changes its logits after the head
    head: nn.Module | None
    bf16: bool = False
    value_head: nn.Linear | None = None  # of a critic that shares the model's body
    layout: Layout = "padded"
    recomputed: tuple[nn.Module, ...] = ()  # layers that keep no activations for the backward pass
    ranks: Ranks = ALONE
    root: nn.Module | None = None  # runs a pass under DDP or FSDP2, see `parallelize.py`
    teacher: Scorer | None = None  # another model, whose distribution a statistic compares with this one's
    vocabulary: int | None = None  # tokens to which logits are cut, where there are more

    @property
    def device(self) -> torch.device:
        return _weight(self.model).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of log-probs and entropies: float32, or float64 for a float64 model."""
        return torch.promote_types(_weight(self.model).dtype, torch.float32)

    def score(
        self,
        batch: MicroBatch,
        distribution_stats: Sequence[DistributionStat] = (),
        *,
        grad: bool,
        with_grad: Collection[str] = (),
        value: bool = False,
    ) -> Scores:
        """Return log-probs of `batch.targets` and the columns asked for, all [K] in at least float32.

        Args:
            distribution_stats: of the next-token distribution at each target.
            grad: keep the graph of the log-probs.
            with_grad: names of distribution_stats whose graph is kept, too; the others carry no gradient.
            value: add the value head's output, with its graph if `grad`.
        """
        batch = batch.to(self.device)
        names = [distribution_stat.name for distribution_stat in distribution_stats] + ([VALUE] if value else [])

        def compute() -> tuple[Tensor, ...]:
            with self._autocast():
                hidden, head = self._outputs(batch)
            taught = self._taught(batch) if any(stat.uses_teacher for stat in distribution_stats) else None
            is_graded = frozenset(with_grad if grad else ())
            columns = _scores((hidden, head), batch.targets, distribution_stats, is_graded, taught)
            if value:
                assert self.value_head is not None
                columns = (*columns, self.value_head(hidden.to(self.value_head.weight.dtype))[:, 0])
            return columns

        with torch.set_grad_enabled(grad), self.attending(batch), self._recomputing(grad):
            logprobs, *columns = compute() if self.root is None else self.root(compute)
        return Scores(logprobs, dict(zip(names, columns, strict=True)))

    def idle(self, *, grad: bool, value: bool = False) -> Tensor | None:
        """Make a pass without rows, so that the other processes need not wait for this one.

        Returns a loss of 0 if `grad`.

        Without gradient it is made only where a pass gathers sharded weights.
        """
        if not grad and not self.ranks.is_sharded:
            return None
        scores = self.score(_nothing(), grad=grad, value=value)
        return sum((column.sum() * 0.0 for column in scores.columns.values()), scores.logprobs.sum() * 0.0)

    def attending(self, batch: MicroBatch) -> AbstractContextManager[None]:
        """Return the attention that a micro-batch needs, for its forward and its backward pass."""
        return nullcontext() if batch.packed is None else packed_rows(self.model)

    def deal(self, rows: Sequence[Row], micro_batch_tokens: int) -> list[MicroBatch | None]:
        """Return this process's micro-batches of `rows`; None is a pass without rows."""
        return deal(rows, micro_batch_tokens, self.layout, self.ranks.rank, self.ranks.size)

    def _taught(self, batch: MicroBatch) -> Outputs:
        """Return the teacher's outputs for a batch."""
        assert self.teacher is not None, "a statistic compares with a teacher, so the algorithm has one"
        with torch.no_grad(), self.teacher.attending(batch), self.teacher._autocast():
            return self.teacher._outputs(batch)

    @contextmanager
    def _recomputing(self, grad: bool) -> Iterator[None]:
        """Return transformers recomputes a layer only if the layer itself, not what is in it, is in training mode."""
        layers = self.recomputed if grad else ()
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def _outputs(self, batch: MicroBatch) -> Outputs:
        """Return vectors at the predicting positions, and the function that turns them into logits."""
        packed = {} if batch.packed is None else {"position_ids": batch.packed.positions, "packed": batch.packed}
        if self.body is None or self.head is None:
            logits = self.model(input_ids=batch.input_ids, use_cache=False, **packed).logits
            return logits.flatten(0, 1)[batch.predictors, : self.vocabulary], _identity
        hidden = self.body(input_ids=batch.input_ids, use_cache=False, **packed).last_hidden_state
        return hidden.flatten(0, 1)[batch.predictors], self._apply_head

    def _apply_head(self, hidden: Tensor) -> Tensor:
        assert self.head is not None
        with self._autocast():
            logits: Tensor = self.head(hidden)
        return logits[:, : self.vocabulary]

    def _autocast(self) -> AbstractContextManager[None]:
        """Return the types of a pass. Where layers are recomputed to save memory, no copies of all weights are kept."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=not self.recomputed)


def make_scorer(
    model: PreTrainedModel,
    *,
    bf16: bool = False,
    value_head: nn.Linear | None = None,
    layout: Layout = "padded",
    recompute: bool = False,
) -> Scorer:
    """Return a scorer for any Hugging Face causal language model; puts the model in eval mode (no dropout).

    Whether head(body(ids)) gives the model's logits is tried once on a few ids. Where it does not (soft-capped or
    scaled logits) the scorer uses the model's own logits at every position, which costs more memory.

    Args:
        recompute: keep only the inputs of each layer for the backward pass (gradient checkpointing).
    Raises:
        ConfigError: such a model is to have a value head; or the model cannot do what `layout` or `recompute` asks.
    """
    model.eval()
    if layout == "packed":
        check_packing(model)
    recomputed = recomputable_layers(model) if recompute else ()
    body, head = model.base_model, model.get_output_embeddings()
    if head is None or body is model or not _is_plain(model, body, head):
        if value_head is not None:
            raise ConfigError("A critic needs a model whose logits are its head on its last hidden state.")
        return Scorer(model, None, None, bf16, layout=layout, recomputed=recomputed)
    return Scorer(model, body, head, bf16, value_head, layout, recomputed)


def fitting_scorer(
    model: PreTrainedModel,
    packing: Literal["auto"] | Layout,
    note: Callable[[str], None],
    *,
    bf16: bool = False,
    value_head: nn.Linear | None = None,
    recompute: bool = False,
) -> Scorer:
    """Return a scorer with the packing that is asked for; `auto`: packed where the model can, else padded, with a note.

    Raises:
        ConfigError: as `make_scorer`.
    """

    def make(layout: Layout) -> Scorer:
        return make_scorer(model, bf16=bf16, value_head=value_head, layout=layout, recompute=recompute)

    if packing != "auto":
        return make(packing)
    try:
        return make("packed")
    except ConfigError as error:
        scorer = make("padded")
        note(f"Rows are padded. {error}")
        return scorer


def decoder_layers(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layers that transformers can recompute one by one: the decoder's."""
    return tuple(module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))


def recomputable_layers(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    """Return a model's decoder layers, made ready to be recomputed. Raises ConfigError if it has none that can be."""
    layers = decoder_layers(model)
    if not layers or not model.supports_gradient_checkpointing:
        raise ConfigError(
            f"{type(model).__name__} has no layers that can be recomputed. Write trainer.gradient_checkpointing=false."
        )
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable  # older
    enable({"use_reentrant": False})
    return layers


def _nothing() -> MicroBatch:
    """Return a row of one token, for a pass whose results are not used."""
    zero = torch.zeros(1, dtype=torch.int64)
    return MicroBatch(zero[None], zero, zero, zero)


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
    outputs: Outputs,
    targets: Tensor,
    distribution_stats: Sequence[DistributionStat],
    with_grad: frozenset[str],
    taught: Outputs | None,
) -> tuple[Tensor, ...]:
    """Return log-probs and columns, in chunks; with several chunks and a graph, each chunk's logits are recomputed in
    the backward pass.

    Args:
        taught: the teacher's outputs, for statistics that compare with them.
    """
    hidden, head = outputs

    def score(hidden: Tensor, targets: Tensor, *of_teacher: Tensor) -> tuple[Tensor, ...]:
        teacher_log_probs = None
        if taught is not None:
            with torch.no_grad():
                teacher_log_probs = _log_probs(taught[1](*of_teacher))
        return _score_chunk(_log_probs(head(hidden)), targets, distribution_stats, with_grad, teacher_log_probs)

    given = (hidden, targets) if taught is None else (hidden, targets, taught[0])
    chunk = max(1, CHUNK_ELEMENTS // _vocabulary(head, hidden))
    pieces: list[tuple[Tensor, ...]] = []
    for start in range(0, max(len(targets), 1), chunk):
        piece = tuple(tensor[start : start + chunk] for tensor in given)
        is_recomputed = len(targets) > chunk and hidden.requires_grad
        pieces.append(checkpoint(score, *piece, use_reentrant=False) if is_recomputed else score(*piece))
    return tuple(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True))


@torch.no_grad()
def _vocabulary(head: Callable[[Tensor], Tensor], hidden: Tensor) -> int:
    return head(hidden[:1]).shape[-1]


def _log_probs(logits: Tensor) -> Tensor:
    """Return log-probs [k, V] in at least float32."""
    return torch.log_softmax(logits if logits.dtype in (torch.float32, torch.float64) else logits.float(), dim=-1)


def _score_chunk(
    log_probs: Tensor,
    targets: Tensor,
    distribution_stats: Sequence[DistributionStat],
    with_grad: frozenset[str],
    teacher_log_probs: Tensor | None,
) -> tuple[Tensor, ...]:
    logprobs = log_probs.gather(-1, targets[:, None])[:, 0]
    if not distribution_stats:
        return (logprobs,)
    columns: list[Tensor] = []
    with torch.set_grad_enabled(bool(with_grad)):
        probs = log_probs.exp()
    for distribution_stat in distribution_stats:
        given = (log_probs, probs, teacher_log_probs) if distribution_stat.uses_teacher else (log_probs, probs)
        with torch.set_grad_enabled(distribution_stat.name in with_grad):
            columns.append(distribution_stat.fn(*given))
    return (logprobs, *columns)


@torch.no_grad()
def score_rows(
    scorer: Scorer,
    rows: Sequence[Row],
    num_tokens: int,
    micro_batch_tokens: int,
    distribution_stats: Sequence[DistributionStat] = (),
    *,
    value: bool = False,
) -> Scores:
    """Return scores of all table entries of `rows`, [num_tokens], without gradient; zero for entries not in `rows`."""
    logprobs = torch.zeros(num_tokens, dtype=scorer.dtype, device=scorer.device)
    names = [distribution_stat.name for distribution_stat in distribution_stats] + ([VALUE] if value else [])
    columns = {name: torch.zeros_like(logprobs) for name in names}
    for batch in scorer.deal(rows, micro_batch_tokens):
        if batch is None:
            scorer.idle(grad=False, value=value)
            continue
        scores = scorer.score(batch, distribution_stats, grad=False, value=value)
        index = batch.index.to(scorer.device)
        logprobs[index] = scores.logprobs
        for name, column in columns.items():
            column[index] = scores.columns[name].to(column.dtype)
    logprobs, *summed = scorer.ranks.sum([logprobs, *columns.values()])
    return Scores(logprobs, dict(zip(columns, summed, strict=True)))
