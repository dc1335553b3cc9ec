"""The policies that a run trains, each on what it played itself: one, or several with `team.weights=separate`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from agentgym_rft.agents.policies.routed import joined_weights
from agentgym_rft.core import Group
from agentgym_rft.errors import CheckpointError
from agentgym_rft.store.checkpoint import Checkpoint, checkpoint_folders
from agentgym_rft.store.run_policies import POLICIES, policy_folder
from agentgym_rft.trainers.learner.group import LearnerGroup
from agentgym_rft.trainers.learner.lora import sharing_copy


def separate_models(model: Any, keys: Sequence[str], *, is_base_frozen: bool) -> dict[str, Any]:
    """Return a model for each policy; the first is `model` itself, the others are copies.

    Where the base is frozen (adapters are trained), the copies have its very weights in memory.
    """
    copied = sharing_copy if is_base_frozen else deepcopy
    return {key: copied(model) if number else model for number, key in enumerate(keys)}


def by_policy(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Return the groups by the key of the policy that played them; a group is one policy's, see `by_seat`."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        player = (*group.trajectories, *group.auxiliary)[0].info["player"]
        found.setdefault(str(player), []).append(group)
    return found


class PolicyLearners:
    """The learners of every policy that a run trains, most often of one. What one does cannot change another.

    Args:
        learner_groups: by the key of the policy; one policy for all that is played has the key "".
    """

    def __init__(self, learner_groups: Mapping[str, LearnerGroup]) -> None:
        self._groups = dict(learner_groups)
        self._first, *self._others = self._groups

    def of(self, groups: Sequence[Group]) -> Iterator[tuple[str, LearnerGroup, list[Group]]]:
        """Return each policy's key, its learners and the groups that it played, unless it played none."""
        own = by_policy(groups) if self._others else {self._first: list(groups)}
        return ((key, learners, own[key]) for key, learners in self._groups.items() if key in own)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights of all policies for the sampling policy, see `joined_weights`."""
        return joined_weights({key: learners.weights() for key, learners in self._groups.items()})

    def save(self, folder: Path, step: int, state: Mapping[str, Any], keep: int) -> None:
        """Write a checkpoint of each policy; that of the first, with the state, comes last. Raises StorageError."""
        for key in self._others:
            self._groups[key].save(policy_folder(folder, key), step, {}, keep + 1)
        names = {POLICIES: list(self._groups)} if self._others else {}
        self._groups[self._first].save(folder, step, {**state, **names}, keep)

    def restore(self, folder: Path) -> Checkpoint:
        """Put the newest good checkpoint of the first policy back, and those of the others of the same step.

        What the others have of later steps is of a save that never finished, and removed.

        Raises:
            CheckpointError: it is of other policies, or one of them has none of that step.
        """
        checkpoint = self._groups[self._first].restore(folder)
        stored = list(checkpoint.state.get(POLICIES, [""]))
        if stored != list(self._groups):
            raise CheckpointError(
                f"Checkpoint '{checkpoint.path}' is of the policies {stored}, the run's are {list(self._groups)}."
            )
        for key in self._others:
            self._groups[key].restore(policy_folder(folder, key), checkpoint.step)
        for key in self._others:
            for step, path in checkpoint_folders(policy_folder(folder, key)):
                if step > checkpoint.step:
                    shutil.rmtree(path)
        return checkpoint

    def dismiss(self, result: Any) -> None:
        """Tell the other processes that the run is done; they return `result`."""
        for learners in self._groups.values():
            learners.dismiss(result)


def joined_metrics(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return each policy's metrics as `policy/KEY/...`, and those of all: counts summed, largest values, means of the
    rest.

    Means are over the policies that have the metric, each with the same weight. One policy's, of the key "", stay as
    they are.
    """
    if list(metrics) == [""]:
        return dict(metrics[""])
    own = {f"policy/{key}/{name}": value for key, each in metrics.items() for name, value in each.items()}
    names = dict.fromkeys(name for each in metrics.values() for name in each)
    return own | {name: _joined(name, [each[name] for each in metrics.values() if name in each]) for name in names}


def _joined(name: str, values: Sequence[float]) -> float:
    if name.startswith("tokens/") or "/num_" in name:
        return sum(values)
    return max(values) if name.endswith("_max") else fmean(values)
