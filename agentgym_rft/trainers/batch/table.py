"""Trajectories -> token table and rows: the flat view of a batch that credit, filters and losses work on.

The table has one entry for each trained action token, in the order trajectory, turn, token. A row is one sequence of
context and action ids that the model sees in one forward pass; it knows at which position each of its tokens sits and
which entry of the table that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.core import Group, Trajectory, Turn
from agentgym_rft.errors import TokenMismatchError

TOKEN_COLUMNS = frozenset({"behaviour_logprobs"})
TURN_COLUMNS = frozenset({"reward", "state", "position", "policy_version", "on_policy", "off_context"})
TRAJECTORY_COLUMNS = frozenset({"episode_return", "num_turns", "num_tokens", "won", "pivot", "auxiliary", "imitation"})


def available_columns(*, reference: bool, critic: bool = False, teacher: bool = False) -> frozenset[str]:
    """Return the names of the columns that a run can have before its stages run, beside those of the next-token
    distribution.

    `ref_logprobs` only with a reference policy, `value` only with a critic, `teacher_logprobs` only with a teacher.
    """
    names = TOKEN_COLUMNS | TURN_COLUMNS | TRAJECTORY_COLUMNS | {"old_logprobs"}
    given = {"ref_logprobs": reference, "value": critic, "teacher_logprobs": teacher}
    return names | {name for name, is_there in given.items() if is_there}


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Columns over the N trained tokens, M turns and T trajectories of a batch, with integer keys between them.

    Token columns are float32, statistics (turn and trajectory columns) float64, keys int64. All live on one device.

    Example: one trajectory of three turns whose actions have 2, 1 and 2 tokens:

        turn          [0 0 1 2 2]         columns["behaviour_logprobs"]               [-.1 -.2 -.9 -.3 -.1]
        trajectory    [0 0 0 0 0]         turn_columns["reward"]                [0 0 1]
        group, task   [0 0 0 0 0]         trajectory_columns["episode_return"]  [1]
    """

    columns: Mapping[str, Tensor]  # [N]
    turn_columns: Mapping[str, Tensor]  # [M]
    trajectory_columns: Mapping[str, Tensor]  # [T]
    turn: Tensor  # [N]
    trajectory: Tensor  # [N]
    group: Tensor  # [N]
    task: Tensor  # [N]
    turn_trajectory: Tensor  # [M]
    trajectory_group: Tensor  # [T]
    num_groups: int
    task_types: tuple[str, ...]  # [T], "" where the environment names none

    @property
    def num_tokens(self) -> int:
        return self.turn.shape[0]

    @property
    def num_turns(self) -> int:
        return self.turn_trajectory.shape[0]

    @property
    def num_trajectories(self) -> int:
        return self.trajectory_group.shape[0]

    @property
    def names(self) -> frozenset[str]:
        """Names of the columns of every level."""
        return frozenset(self.columns) | frozenset(self.turn_columns) | frozenset(self.trajectory_columns)

    def token_column(self, name: str) -> Tensor:
        """Return a column of any level, given to each token, [N]. Raises KeyError for an unknown name."""
        if name in self.turn_columns:
            return self.turn_columns[name][self.turn]
        if name in self.trajectory_columns:
            return self.trajectory_columns[name][self.trajectory]
        return self.columns[name]

    def with_columns(self, columns: Mapping[str, Tensor]) -> TokenTable:
        """Return a table with more (or other) token columns, each [N]. Raises ValueError for another shape."""
        for name, column in columns.items():
            if column.shape != self.turn.shape:
                raise ValueError(f"Column '{name}' has shape {tuple(column.shape)}, expected {tuple(self.turn.shape)}.")
        return replace(self, columns={**self.columns, **columns})

    def to(self, device: torch.device) -> TokenTable:
        """Return the same table on another device."""

        def move(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: column.to(device) for name, column in columns.items()}

        return TokenTable(
            columns=move(self.columns),
            turn_columns=move(self.turn_columns),
            trajectory_columns=move(self.trajectory_columns),
            turn=self.turn.to(device),
            trajectory=self.trajectory.to(device),
            group=self.group.to(device),
            task=self.task.to(device),
            turn_trajectory=self.turn_trajectory.to(device),
            trajectory_group=self.trajectory_group.to(device),
            num_groups=self.num_groups,
            task_types=self.task_types,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence for one forward pass. It ends with its last trained token.

    Example: `ids` [c c a a c a], the actions trained -> `positions` [2 3 5], `index` [0 1 2].
    """

    ids: np.ndarray  # int64 [L], context and action ids
    positions: np.ndarray  # int64 [K], where in `ids` the trained tokens are; never 0
    index: np.ndarray  # int64 [K], entry of each in the token table
    trajectory: int
    group: int


def build_table(groups: Sequence[Group], version: int, *, auxiliary: bool = False) -> tuple[TokenTable, list[Row]]:
    """Return the token table and the rows of groups without errored trajectories.

    Args:
        groups: as `split_errors` returns them.
        version: of the policy that is about to be trained; turns sampled by it in the context of their row are
            `on_policy`.
        auxiliary: take in the groups' auxiliary trajectories, each as a group of its own, so that they enter no
            baseline; their rows go to the minibatch of their group.
    Raises:
        ValueError: a trajectory is errored.
        TokenMismatchError: log-probs and ids differ in number, or rows do not hold the sampled ids.
    """
    builder = _Builder()
    trajectories: list[Trajectory] = []
    group_ids: list[int] = []
    for number, group in enumerate(groups):
        for trajectory in group.trajectories:
            builder.add(trajectory, len(trajectories), number)
            trajectories.append(trajectory)
            group_ids.append(number)
    num_main = len(trajectories)
    for number, group in enumerate(groups if auxiliary else ()):
        for trajectory in group.auxiliary:
            builder.add(trajectory, len(trajectories), number)
            group_ids.append(len(groups) + len(trajectories) - num_main)
            trajectories.append(trajectory)
    check_rows(builder.rows, trajectories)
    return _table(builder, trajectories, num_main, group_ids, version), builder.rows


@dataclass(slots=True)
class _Builder:
    """Collects rows and per-turn lists while `build_table` walks the trajectories."""

    rows: list[Row] = field(default_factory=list)
    behaviour_logprobs: list[float] = field(default_factory=list)
    token_counts: list[int] = field(default_factory=list)  # [M], trained tokens of each turn
    turn_trajectory: list[int] = field(default_factory=list)

    def add(self, trajectory: Trajectory, number: int, group: int) -> None:
        for turns in trajectory.rows():
            ids: list[int] = []
            positions: list[int] = []
            first = len(self.behaviour_logprobs)
            for turn in turns:
                if len(turn.logprobs) != len(turn.action_ids):
                    raise TokenMismatchError(
                        f"A turn of episode {trajectory.episode_id} has {len(turn.action_ids)} sampled ids "
                        f"but {len(turn.logprobs)} log-probs."
                    )
                ids.extend(turn.context_ids)
                trained = len(turn.action_ids) if turn.trainable else 0
                positions.extend(range(len(ids), len(ids) + trained))
                ids.extend(turn.action_ids)
                self.behaviour_logprobs.extend(turn.logprobs[:trained])
                self.token_counts.append(trained)
                self.turn_trajectory.append(number)
            if not positions:
                continue
            if positions[0] == 0:
                raise TokenMismatchError(f"A row of episode {trajectory.episode_id} has no context before its action.")
            index = np.arange(first, len(self.behaviour_logprobs), dtype=np.int64)
            row_ids = np.array(ids[: positions[-1] + 1], dtype=np.int64)
            self.rows.append(Row(row_ids, np.array(positions, dtype=np.int64), index, number, group))


def _is_on_policy(turn: Turn, version: int) -> bool:
    return turn.policy_version == version and turn.last_version is None and not turn.off_context


def _table(
    builder: _Builder, trajectories: Sequence[Trajectory], num_main: int, group_ids: Sequence[int], version: int
) -> TokenTable:
    """Return the table; trajectories from `num_main` on are auxiliary."""
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    tasks = _ids([trajectory.task_id for trajectory in trajectories])
    states = _ids([_state(t, number) for t in trajectories for number in range(len(t.turns))])
    token_counts = torch.tensor(builder.token_counts, dtype=torch.int64)
    turn_trajectory = torch.tensor(builder.turn_trajectory, dtype=torch.int64)
    trajectory_group = torch.tensor(group_ids, dtype=torch.int64)
    turn = torch.repeat_interleave(torch.arange(len(turns)), token_counts)
    trajectory = turn_trajectory[turn]
    versions = [t.policy_version for t in turns]
    return TokenTable(
        columns={"behaviour_logprobs": torch.tensor(builder.behaviour_logprobs, dtype=torch.float32)},
        turn_columns={
            "reward": _float([t.reward for t in turns]),
            "state": torch.tensor(states, dtype=torch.int64),
            "position": _float([i for t in trajectories for i in range(len(t.turns))]),
            "policy_version": _float(versions),
            "on_policy": _float([_is_on_policy(t, version) for t in turns]),
            "off_context": _float([t.off_context for t in turns]),
        },
        trajectory_columns={
            "episode_return": _float([t.episode_return for t in trajectories]),
            "num_turns": _float([len(t.turns) for t in trajectories]),
            "num_tokens": segment_sum(token_counts.double(), turn_trajectory, len(trajectories)),
            "won": _float([t.won for t in trajectories]),
            "pivot": _float([int(t.info.get("pivot", 0)) for t in trajectories]),
            "auxiliary": _float([number >= num_main for number in range(len(trajectories))]),
            "imitation": _float([float(t.info.get("imitation", 1.0)) for t in trajectories]),
        },
        turn=turn,
        trajectory=trajectory,
        group=trajectory_group[trajectory],
        task=torch.tensor(tasks, dtype=torch.int64)[trajectory],
        turn_trajectory=turn_trajectory,
        trajectory_group=trajectory_group,
        num_groups=max(group_ids, default=-1) + 1,
        task_types=tuple(str(t.info.get("task_type", "")) for t in trajectories),
    )


def _state(trajectory: Trajectory, number: int) -> tuple[str, ...]:
    """Return the key that equal states share. A turn without a state key is equal to no other."""
    key = trajectory.turns[number].state_key
    return (trajectory.task_id, key) if key else (trajectory.task_id, trajectory.episode_id, str(number))


def _float(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _ids(names: Sequence[object]) -> list[int]:
    known: dict[object, int] = {}
    return [known.setdefault(name, len(known)) for name in names]


def segment_sum(values: Tensor, key: Tensor, num_segments: int) -> Tensor:
    """Return the sum of `values` [N] by `key` [N] -> [num_segments], in the dtype of `values`."""
    return torch.zeros(num_segments, dtype=values.dtype, device=values.device).index_add_(0, key, values)


def check_rows(rows: Sequence[Row], trajectories: Sequence[Trajectory]) -> None:
    """Raise `TokenMismatchError` unless the ids that the rows train are the sampled ids, each once and in order."""
    trained: list[list[int]] = [[] for _ in trajectories]
    entry = 0
    for row in rows:
        if not np.array_equal(row.index, np.arange(entry, entry + len(row.positions))):
            raise TokenMismatchError(f"A row of trajectory {row.trajectory} does not continue the token table.")
        entry += len(row.positions)
        trained[row.trajectory].extend(row.ids[row.positions].tolist())
    for trajectory, got in zip(trajectories, trained, strict=True):
        sampled = [i for turn in trajectory.turns if turn.trainable for i in turn.action_ids]
        if got != sampled:
            at = next((n for n, (a, b) in enumerate(zip(got, sampled, strict=False)) if a != b), None)
            where = (
                f"trained token {at} is {got[at]}, sampled was {sampled[at]}" if at is not None else "numbers differ"
            )
            raise TokenMismatchError(
                f"Episode {trajectory.episode_id}: {len(got)} trained and {len(sampled)} sampled tokens, {where}."
            )
