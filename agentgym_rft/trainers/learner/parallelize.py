"""Puts a scorer's model under torch's DDP or FSDP2, so that several processes train as one.

The weights of the loss are global, so the loss is the sum of the processes' losses and gradients are summed, never
averaged.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from agentgym_rft.trainers.batch.packing import MicroBatch
from agentgym_rft.trainers.learner.processes import Ranks
from agentgym_rft.trainers.learner.scoring import Scorer, decoder_layers

Compute = Callable[[], tuple[Tensor, ...]]


class Core(nn.Module):
    """The model and the critic's head as one module. Its forward pass runs a given function on them.

    DDP and FSDP2 hook into the outputs of one module's forward pass, but a scorer calls the model part by part.
    """

    def __init__(self, model: nn.Module, value_head: nn.Module | None) -> None:
        super().__init__()
        self.model = model
        if value_head is not None:
            self.value_head = value_head

    def forward(self, compute: Compute) -> tuple[Tensor, ...]:
        """Return the outputs of `compute`, with views copied: an in-place operation would drop the hooks of a view."""
        return tuple(tensor.clone() if tensor._is_view() else tensor for tensor in compute())


def wrapped(scorer: Scorer, ranks: Ranks, *, is_trained: bool = True) -> Scorer:
    """Return the scorer as one of `ranks`. With FSDP2 the model that it was made of is sharded in place."""
    if ranks.strategy == "none":
        return scorer
    core = Core(scorer.model, scorer.value_head)
    if ranks.strategy == "fsdp2":
        _shard(core, scorer, ranks)
        return replace(scorer, ranks=ranks, root=core, bf16=False)
    root = _replicate(core, scorer) if is_trained else None
    return replace(scorer, ranks=ranks, root=root)


def trained_module(scorer: Scorer) -> nn.Module:
    """Return the module that an optimizer trains: the model, with the critic's head if there is one."""
    return scorer.model if scorer.value_head is None else nn.ModuleList([scorer.model, scorer.value_head])


@contextmanager
def backward_pass(scorer: Scorer, batch: MicroBatch | None, *, is_last: bool) -> Iterator[None]:
    """Return forward and backward of one micro-batch: packed attention lasts through both, DDP sums gradients in the
    last.
    """
    with _unsummed(scorer.root, is_last):
        if batch is None:
            yield
            return
        with scorer.attending(batch):
            yield


@contextmanager
def _unsummed(root: nn.Module | None, is_last: bool) -> Iterator[None]:
    if isinstance(root, DistributedDataParallel) and not is_last:
        with root.no_sync():
            yield
        return
    yield


def _replicate(core: Core, scorer: Scorer) -> DistributedDataParallel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the only name that older versions of torch know
        module = DistributedDataParallel(
            core,
            device_ids=[scorer.device] if scorer.device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=not _reaches_all(core, scorer),
        )
    module.register_comm_hook(None, _sum_bucket)
    return module


def _reaches_all(core: Core, scorer: Scorer) -> bool:
    """Return True if every pass has a gradient for every weight; not so, for example, with experts."""
    loss = scorer.idle(grad=True, value=scorer.value_head is not None)
    assert loss is not None
    weights = [weight for weight in core.parameters() if weight.requires_grad]
    return all(gradient is not None for gradient in torch.autograd.grad(loss, weights, allow_unused=True))


def _sum_bucket(state, bucket):  # type: ignore[no-untyped-def]  # DDP refuses annotations that are strings
    """Sum a bucket of gradients over the processes (DDP's own hook takes the mean)."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def _shard(core: Core, scorer: Scorer, ranks: Ranks) -> None:
    """Each decoder layer is gathered by itself; embeddings, last norm and head belong to the root.

    With `bf16` the gathered weights are bfloat16, their gradients are summed in float32, and the critic's head stays
    as it is.
    """
    device = torch.device("cuda") if torch.cuda.is_available() and scorer.device.type == "cuda" else scorer.device
    mesh = init_device_mesh(device.type, (ranks.size,))
    narrow = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = narrow if scorer.bf16 else MixedPrecisionPolicy()
    if scorer.value_head is not None:
        fully_shard(scorer.value_head, mesh=mesh)
    for layer in decoder_layers(scorer.model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(core, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for module in core.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
