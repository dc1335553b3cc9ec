"""Code inside vLLM's worker processes: it loads new weights without a restart, and ends them with their owner.

vLLM imports this module by name in every worker before it loads the model. On a CPU, its linear layers repack their
weights for the matrix kernels and drop the originals. vLLM's own reload then raises no error, but the model samples
nonsense. So here the layers keep the originals, and are packed again after each update.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors import safe_open

from agentgym_rft.agents.policies.vllm_worker_names import OWNER


class WeightSync:
    """Added to the bases of vLLM's worker class; its methods are called by `collective_rpc`."""

    model_runner: Any
    model_config: Any
    device: torch.device

    def agentgym_pid(self) -> int:
        """Return the process of this worker."""
        return os.getpid()

    def agentgym_load(self, path: str) -> list[str]:
        """Replace all weights by those of a safetensors file. Returns the names of parameters that it lacked."""
        weights = _tensors(path)
        if self.device.type != "cpu":
            self.model_runner.reload_weights(weights_iterator=weights)
            return []
        from vllm.model_executor.model_loader.utils import process_weights_after_loading

        model = self.model_runner.get_model()
        # Where adapters are served, a layer that can have one stands between its name and its weight.
        expected = {name.replace(".base_layer.", ".") for name, _ in model.named_parameters() if ".lora_" not in name}
        with torch.no_grad():
            loaded = model.load_weights(weights)
            process_weights_after_loading(model, self.model_config, self.device)
        return [] if loaded is None else sorted(expected - {name.replace(".base_layer.", ".") for name in loaded})


def _tensors(path: str) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # it is no mapping
            yield name, file.get_tensor(name)


def _keep_packed_weights() -> None:
    """Make the CPU's linear layers keep the weight that they pack."""
    from vllm.model_executor.layers import utils
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    pack: Callable[..., None] = utils.dispatch_cpu_unquantized_gemm

    def pack_and_keep(layer: torch.nn.Module, remove_weight: bool) -> None:
        pack(layer, remove_weight=False)

    utils.dispatch_cpu_unquantized_gemm = pack_and_keep


def _end_with_owner(owner: int) -> None:
    """Ends this process and vLLM's engine above it as soon as the owner is gone, which vLLM itself does not do."""
    engine = os.getppid()
    try:
        watched = os.pidfd_open(owner)
    except ProcessLookupError:
        watched = None

    def wait() -> None:
        if watched is not None:
            select.select([watched], [], [])  # readable when the process has ended
        for pid in {engine, os.getpid()} - {owner, 1}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    threading.Thread(target=wait, name="owner", daemon=True).start()


_keep_packed_weights()
if OWNER in os.environ:
    _end_with_owner(int(os.environ[OWNER]))
