"""Copies weights into a model in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from agentgym_rft.errors import PolicyError

_NUM_NAMED = 3  # names shown in a message


def copy_weights(model: torch.nn.Module, weights: Mapping[str, Any]) -> None:
    """Overwrite every parameter and saved buffer, cast to the model's types; tied tensors need one of their names.

    Raises:
        PolicyError: a name is unknown or missing, or a shape differs. The model is then unchanged.
    """
    own = model.state_dict()
    unknown = [name for name in weights if name not in own]
    if unknown:
        raise PolicyError(f"The model has no weights named {_some(unknown)}.")
    given = {own[name].data_ptr() for name in weights}
    missing = [name for name, tensor in own.items() if tensor.data_ptr() not in given]
    if missing:
        raise PolicyError(f"The new weights lack {_some(missing)}.")
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor) or tensor.shape != own[name].shape:
            given_as = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise PolicyError(f"'{name}' is {given_as}; the model has a tensor of shape {tuple(own[name].shape)}.")
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_NUM_NAMED])
    return shown + (f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else "")
