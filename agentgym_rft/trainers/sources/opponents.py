"""A pool of opponents (`team.pool`): the run's own past policies, which play the other agents in some groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from agentgym_rft.agents.policies.base import Policy
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.config.run import Config
from agentgym_rft.config.team import PoolSection
from agentgym_rft.core import Group
from agentgym_rft.errors import CheckpointError, StorageError
from agentgym_rft.rollouts.policies import policy_section, serve
from agentgym_rft.rollouts.seats import trained_seats
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.store.checkpoint import checkpoint_folders, weights_difference
from agentgym_rft.store.files import write_atomically
from agentgym_rft.store.trainer_state import assign
from agentgym_rft.trainers.learner.lora import sharing_copy

Rule = Literal["uniform", "latest", "prioritised"]
UNKNOWN = 0.5  # success against a member that has not played yet: an even match
NEWEST_WEIGHT = 0.2  # of the newest group in the moving average of the success against a member
_PREFIX = "pool/"  # of the members' keys in the routed policy
_SUFFIX = ".safetensors"  # of their files


def draw_weights(rule: Rule, successes: Sequence[float]) -> np.ndarray:
    """Return probability of each member of a pool, oldest first, [members].

    `prioritised` is in proportion to (1 - p) ** 2, p being the own success against the member, and uniform where
    all are beaten for certain. `latest` takes the newest.

    Source: Vinyals et al. 2019, AlphaStar (doi 10.1038/s41586-019-1724-z), prioritized fictitious self-play, f_hard.
    """
    weights = (1.0 - np.asarray(successes)) ** 2 if rule == "prioritised" else np.ones(len(successes))
    if rule == "latest":
        weights[:-1] = 0.0
    return np.asarray(weights / weights.sum()) if weights.sum() > 0 else np.full(len(successes), 1 / len(successes))


def kept_members(members: Sequence[int], step: int, size: int) -> list[int]:
    """Return the members after the policy of a step has joined: the first always stays, the oldest of the others go."""
    first, *others = [*members, step]
    return [first, *others[len(others) - min(size - 1, len(others)) :]]


def own_success(group: Group) -> float | None:
    """Return mean score of the trained agents of a group, in [0, 1]; None if every episode broke.

    The score, not `won`, so that a draw counts half, and a deal or a hand of cards by what it brought.
    """
    scores = [float(t.info["score"]) for t in group.valid if t.info["is_trained"]]
    return fmean(scores) if scores else None


def member_of(group: Group) -> int | None:
    """Return the step of the pool's policy that played in a group; None if there was none."""
    players = (str(t.info.get("player", "")) for t in group.trajectories)
    return next((int(player.removeprefix(_PREFIX)) for player in players if player.startswith(_PREFIX)), None)


def snapshot(model: Any) -> dict[str, Tensor]:
    """Return copies of a model's weights, tied ones once; of one with adapters, only the adapters'."""
    own: Mapping[str, Tensor] = model.state_dict()
    adapters = {name: tensor for name, tensor in own.items() if ".lora_" in name}
    once = {tensor.data_ptr(): name for name, tensor in (adapters or own).items()}
    return {name: own[name].detach().cpu().clone().contiguous() for name in sorted(once.values())}


def past_model(model: Any, weights: Mapping[str, Tensor]) -> Any:
    """Return a model like `model` with the weights of a snapshot; one with adapters shares the others with it in
    memory.

    Raises:
        CheckpointError: the snapshot is of another model.
    """
    difference = weights_difference(weights, snapshot(model))
    if difference:
        raise CheckpointError(f"The snapshot of an opponent is of another model: {difference}.")
    copy = sharing_copy(model) if any(".lora_" in name for name in weights) else deepcopy(model)
    own = copy.state_dict()
    for name, tensor in weights.items():
        assign(own[name], tensor)
    return copy.requires_grad_(False)


class OpponentPool:
    """Keeps the members of the pool, chooses one for a group, and records the trained policy's success against each.

    Snapshots lie in `folder` as `step-NNNNNN.safetensors`, as long as a checkpoint may need them.

    Args:
        agents: those that are trained; in a group against the pool one of them is, in turn.
        model: the trained one.
        routed: the policy that plays; members are added to it.
        make_policy: serves a model.
        run_dir: the snapshots go into `opponents` there, and `checkpoints` tells how long they are needed.
    """

    def __init__(
        self,
        section: PoolSection,
        seed: int,
        agents: Sequence[str],
        model: Any,
        routed: RoutedPolicy,
        make_policy: Callable[[Any], Policy],
        run_dir: Path,
    ) -> None:
        self._section, self._seed, self._agents = section, seed, tuple(agents)
        self._model, self._routed, self._make_policy = model, routed, make_policy
        self._folder, self._checkpoints = run_dir / "opponents", run_dir / "checkpoints"
        self._success: dict[int, float] = {}  # of the members, by step, oldest first
        self._left: dict[int, int] = {}  # former members, and the step after which they left
        self._num_groups = 0  # planned against the pool

    @property
    def members(self) -> tuple[int, ...]:
        """The steps after which the members were the trained policy, oldest first."""
        return tuple(self._success)

    def begin(self, version: int) -> None:
        """Put the members into the routed policy; a new run's first is the starting policy. Raises CheckpointError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob(
            f"step-*{_SUFFIX}"
        ):  # left by a start that finished no step, or by steps that are repeated
            if path not in {self._file(step) for step in (*self._success, *self._left)}:
                path.unlink()
        for step in self._success:
            self._seat(step, self._read(step))
        if not self._success:
            self._join(version)

    def players(self, group_id: str) -> dict[str, str]:
        """Return the member that plays each agent of a group, untrained: one plays all agents but one, or none
        plays.
        """
        random = np.random.default_rng(derive_seed(self._seed, "pool", group_id))
        if random.random() >= self._section.share:
            return {}
        weights = draw_weights(self._section.rule, list(self._success.values()))
        member = self.members[int(random.choice(len(weights), p=weights))]
        own = self._agents[self._num_groups % len(self._agents)]
        self._num_groups += 1
        return {agent: _key(member) for agent in self._agents if agent != own}

    def observe(self, groups: Sequence[Group]) -> dict[str, float]:
        """Learn from a batch how the trained policy does against the members; returns the metrics."""
        against = [(step, own_success(group)) for group in groups if (step := member_of(group)) is not None]
        scores = [(step, score) for step, score in against if score is not None]
        for step, score in scores:
            self._success[step] += NEWEST_WEIGHT * (score - self._success[step])
        mean = {"pool/success": fmean(score for _, score in scores)} if scores else {}
        return {
            "pool/size": float(len(self._success)),
            "pool/share": len(against) / max(len(groups), 1),
            **mean,
            **{f"pool/success/{step}": success for step, success in self._success.items()},
        }

    def publish(self, version: int) -> None:
        """Add the policy after `version` steps to the pool, if its turn has come. Raises StorageError."""
        if version % self._section.every == 0:
            self._join(version)
        self._forget()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, beside the snapshots, as JSON values."""
        return {
            "success": [[step, success] for step, success in self._success.items()],
            "left": [[step, after] for step, after in self._left.items()],
            "num_groups": self._num_groups,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Before `begin`."""
        self._success = {int(step): float(success) for step, success in state["success"]}
        self._left = {int(step): int(after) for step, after in state["left"]}
        self._num_groups = int(state["num_groups"])

    def _join(self, step: int) -> None:
        kept = kept_members(self.members, step, self._section.size)
        if step not in kept:
            return
        weights = snapshot(self._model)
        try:
            write_atomically(self._file(step), safetensors.torch.save(weights))
        except OSError as error:
            raise StorageError(f"Cannot write '{self._file(step)}': {error.strerror}. Make room.") from error
        self._seat(step, weights)
        for gone in set(self._success) - set(kept):
            self._routed.remove(_key(gone))
            self._left[gone] = step
        self._success = {member: self._success.get(member, UNKNOWN) for member in kept}

    def _seat(self, step: int, weights: Mapping[str, Tensor]) -> None:
        self._routed.add(_key(step), self._make_policy(past_model(self._model, weights)))

    def _forget(self) -> None:
        """Remove the snapshots that no checkpoint needs any more."""
        found = checkpoint_folders(self._checkpoints)
        oldest = found[0][0] if found else 0
        for step in [step for step, after in self._left.items() if after <= oldest]:
            del self._left[step]
            self._file(step).unlink(missing_ok=True)

    def _read(self, step: int) -> dict[str, Tensor]:
        path = self._file(step)
        try:
            return safetensors.torch.load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"The opponent '{path}' cannot be read: {error}. Restore it from a copy, or start the run anew."
            ) from error

    def _file(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}{_SUFFIX}"


def make_pool(config: Config, model: Any, policy: Policy | None, run_dir: Path) -> OpponentPool:
    """Return the pool of a run, see `with_frozen` for the policy."""
    assert isinstance(policy, RoutedPolicy), "a run with a pool has a policy that members can be added to"
    section = policy_section(config)
    return OpponentPool(
        config.team.pool,
        config.run.seed,
        tuple(trained_seats(config)),
        model,
        policy,
        lambda past: serve(past, section),
        run_dir,
    )


def _key(step: int) -> str:
    return f"{_PREFIX}{step}"
