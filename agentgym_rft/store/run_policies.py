"""The checkpoints of a run that trains a policy for each role.

    RUN/checkpoints                 of the first policy, with the state of the run, which names all policies in order
    RUN/policies/KEY/checkpoints    of each other one

The other policies' checkpoints are written first, and one more of them is kept. So each step in the first folder is
also in all others. A run that trains one policy has only the first folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentgym_rft.errors import DataError, did_you_mean
from agentgym_rft.store.checkpoint import Checkpoint, checkpoint_at, load_checkpoint
from agentgym_rft.store.files import file_name

POLICIES = "policies"  # entry of a checkpoint's state that lists the keys of all policies
MARK = "#"  # between run and role in a policy's name


def policy_folder(checkpoints: Path, key: str) -> Path:
    """Return the checkpoint folder of a policy other than the first; `checkpoints` is the first one's."""
    return checkpoints.parent / "policies" / file_name(key) / checkpoints.name


def split_role(name: str) -> tuple[Path, str]:
    """Return directory and role of `DIR#ROLE`; a name without a role, or of a path that is there, has the role ""."""
    folder, mark, role = name.rpartition(MARK)
    return (Path(name), "") if not mark or Path(name).exists() else (Path(folder), role)


def trained_policy(run: Path, role: str = "") -> Checkpoint:
    """Return the newest good checkpoint of a run's policy; of several, that of a role.

    Raises:
        DataError: it is not said which of several policies, or there is none for the role.
        CheckpointError: there is no good checkpoint.
    """
    if role and not (run / "config.yaml").is_file():
        raise DataError(f"'{run}{MARK}{role}' names the policy of a role, but '{run}' is no training run.")
    newest = load_checkpoint(run / "checkpoints")
    keys: Sequence[str] = newest.state.get(POLICIES, ())
    if not keys:
        if role:
            raise DataError(f"'{run}' trained one policy for all roles: leave out {MARK}{role}.")
        return newest
    if role not in keys:
        named = ", ".join(f"'{run}{MARK}{key}'" for key in keys)
        problem = f"none for '{role}'" if role else "and each plays its own role"
        raise DataError(
            f"'{run}' trained several policies, {problem}. Name one: {named}.{did_you_mean(role, keys) if role else ''}"
        )
    return newest if role == keys[0] else checkpoint_at(policy_folder(run / "checkpoints", role), newest.step)
