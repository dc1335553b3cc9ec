"""The processes of a training run: the rank of this one, and the messages between them.

torchrun starts one process for each device. Process 0 leads: it rolls out, writes the run directory and sends orders to
the others, which only train. They communicate in torch's default process group (NCCL between GPUs, gloo between CPUs).
A collective has a short deadline, but a rollout may take long. So the others first wait for a key in torch's store,
which process 0 sets when it has an order, and only then for the order itself in the group.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from agentgym_rft.config.run import ParallelSection
from agentgym_rft.errors import AgentGymError, ConfigError, ParallelError
from agentgym_rft.trainers.learner.launcher import is_launched

Strategy = Literal["none", "ddp", "fsdp2"]
IDLE_S = 86_400.0  # how long the others wait while process 0 rolls out


class OrderBell:
    """Announces orders through torch's store. Process 0 never waits; the others wait as long as a rollout takes."""

    def __init__(self, store: Store, patience_s: float) -> None:
        self._store = store
        self._patience = timedelta(seconds=patience_s)
        self._num_orders = 0

    def ring(self) -> None:
        self._num_orders += 1
        self._store.set(str(self._num_orders), "")

    def wait(self) -> None:
        self._num_orders += 1
        self._store.wait([str(self._num_orders)], self._patience)


class Ranks:
    """The rank of this process in the run, and its messages to the others.

    With one process (`ALONE`) there are none.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, strategy: Strategy = "none", bell: OrderBell | None = None
    ) -> None:
        self.rank = rank
        self.size = size
        self.strategy = strategy
        self._bell = bell
        self._is_listening = bell is not None  # True while the others wait for an order

    @property
    def is_sharded(self) -> bool:
        """True if no process has all weights."""
        return self.strategy == "fsdp2"

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return each tensor's sum over all processes, in one message; all must be of one device and floating type."""
        if self.size == 1 or not tensors:
            return list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def order(self, message: Any) -> None:
        """Process 0: send an order to the others. Call `ready` once it is carried out, before the next order."""
        self._is_listening = False
        self._broadcast(message)

    def ready(self) -> None:
        """Process 0: note that the last order was carried out, so the others wait for the next."""
        self._is_listening = True

    def await_order(self) -> Any:
        """Wait for the next order of process 0."""
        return self._broadcast(None)

    def dismiss(self, message: Any) -> None:
        """Process 0: send a last message, if the others wait for one. After a failed order they fail by themselves."""
        if self._is_listening:
            self._is_listening = False
            with suppress(ParallelError):
                self._broadcast(message)

    def _broadcast(self, message: Any) -> Any:
        if self._bell is None:
            return message
        box = [message]
        with peer_failures_named():
            if self.rank == 0:
                self._bell.ring()
            else:
                self._bell.wait()
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]


ALONE = Ranks()


@contextmanager
def peer_failures_named() -> Iterator[None]:
    """Raise `ParallelError` in place of torch's error when another process ended or did not answer in time."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, AgentGymError) or not _is_of_peers(error):
            raise
        raise ParallelError(
            "Another process of this run ended or did not answer within trainer.parallel.timeout_s; what it wrote "
            f"last says why. ({str(error).splitlines()[0]})"
        ) from error


def _is_of_peers(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(
        word in text for word in ("gloo", "nccl", "connection", "timed out")
    )


def choose_strategy(section: ParallelSection) -> Strategy:
    """Return the strategy of this run: `auto` is DDP under torchrun with several processes, else none.

    Raises:
        ConfigError: the strategy and the number of processes do not go together.
    """
    size = int(os.environ["WORLD_SIZE"]) if is_launched() else 1
    if section.strategy == "auto":
        return "ddp" if size > 1 else "none"
    if section.strategy == "none" and size > 1:
        raise ConfigError(
            f"torchrun started {size} processes, but trainer.parallel.strategy is 'none'. Write auto, ddp or fsdp2."
        )
    if section.strategy != "none" and not is_launched():
        raise ConfigError(
            f"trainer.parallel.strategy is '{section.strategy}', which needs several processes. Start them with: "
            "torchrun --nproc-per-node N -m agentgym_rft train ..."
        )
    return section.strategy


@contextmanager
def joined(section: ParallelSection) -> Iterator[Ranks]:
    """Connect this process with the others of the run while the context lasts.

    If process 0 fails between two orders, it tells the others, and they raise `ParallelError`.

    Raises:
        ConfigError: the strategy and the number of processes do not go together.
        ParallelError: the other processes could not be reached.
    """
    strategy = choose_strategy(section)
    if strategy == "none":
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    timeout = timedelta(seconds=section.timeout_s)
    with peer_failures_named():
        store, rank, size = next(rendezvous("env://", timeout=timeout))
        group_store = PrefixStore("group", store)
        dist.init_process_group(backend, store=group_store, rank=rank, world_size=size, timeout=timeout)
        _keep_for_ever(dist.group.WORLD)
    bell = OrderBell(PrefixStore("orders", store), IDLE_S)
    ranks = Ranks(rank, size, strategy, bell)
    try:
        yield ranks
    except BaseException as error:
        if ranks.rank == 0:
            ranks.dismiss((None, ParallelError(f"Process 0 failed: {type(error).__name__}: {error}")))
        raise
    finally:
        dist.destroy_process_group()


def _keep_for_ever(group: Any) -> None:
    """Never free a process group: its destructor may wait for ever.

    In torch 2.13 it holds the interpreter's lock while it joins threads that may need this lock, most often after a
    collective that failed.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))


def local_device(name: str) -> str:
    """Return the device of this process. If `name` does not say which GPU, it is the one of torchrun's local rank."""
    is_gpu = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if is_gpu and is_launched() else name
