"""Gives a gateway the weights of a training run's newest checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.errors import CheckpointError, DataError
from agentgym_rft.store.checkpoint import has_checkpoint, load_checkpoint

_log = logging.getLogger(__name__)


class Follower:
    """Looks for newer checkpoints when asked to, and loads their weights. A checkpoint's step is its version.

    Args:
        run_dir: of the training run; it need not be there yet.
        load: called with weights by name and their version.
        version: of the current weights.
    """

    def __init__(self, run_dir: Path, load: Callable[[Mapping[str, Any], int], None], version: int = 0) -> None:
        self._folder = run_dir / "checkpoints"
        self._load = load
        self._version = version
        self._settled = version  # newest step that was loaded, or that held nothing newer to load
        self._complained = version

    def check(self) -> int | None:
        """Load the newest good checkpoint if it is newer than the weights there are; returns its step.

        Without a good one, or if the trainer removes it just then, that is said once and tried again the next time.

        Raises:
            PolicyError: it is of another model.
        """
        newest = max(self._steps(), default=self._version)
        if newest <= self._settled:
            return None
        try:
            checkpoint = load_checkpoint(self._folder)
            if checkpoint.step <= self._version:
                self._settled = newest
                return None
            model, _ = load_model(checkpoint.model_dir, device="cpu", dtype=torch.float32)
        except (CheckpointError, DataError, OSError) as error:
            if newest > self._complained:
                _log.warning("Step %d of '%s' is not taken up yet: %s", newest, self._folder, error)
                self._complained = newest
            return None
        self._load(model.state_dict(), checkpoint.step)
        self._version = checkpoint.step
        self._settled = newest
        return checkpoint.step

    def _steps(self) -> list[int]:
        if not has_checkpoint(self._folder):
            return []
        names = [path.name.removeprefix("step-") for path in self._folder.glob("step-*")]
        return [int(name) for name in names if name.isdecimal()]
