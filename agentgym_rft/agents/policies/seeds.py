"""The small policies that come with the package, one for each environment that has one."""

from __future__ import annotations

from pathlib import Path

from agentgym_rft import registry
from agentgym_rft.agents.policies.names import model_name, renamed
from agentgym_rft.errors import DataError, did_you_mean

SEED = "seed"
DEFAULT_SEED = "alfworld"
_FOLDER = Path(__file__).parent / "seed"


def is_seed(name: str) -> bool:
    """Return True for `seed` and `seed:NAME`."""
    return name == SEED or name.startswith(f"{SEED}:")


def seed_names() -> list[str]:
    """Return the names that may follow `seed:`, sorted."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/config.json"))


def seed_of_env(short_name: str) -> str:
    """Return `seed:NAME` with the environment's own seed policy, or ALFWorld's where it has none."""
    return f"{SEED}:{short_name if short_name in seed_names() else DEFAULT_SEED}"


def seed_policy_path(name: str = SEED) -> Path:
    """Return the directory of `seed:NAME`; `seed` alone is ALFWorld's.

    Raises:
        DataError: there is no such policy, or this installation has none.
    """
    _, _, short_name = name.partition(":")
    path = _FOLDER / (short_name or DEFAULT_SEED)
    known = seed_names()
    if not known:
        raise DataError(
            f"This installation has no seed policy ({path} is missing or empty). Install the package's wheel, train "
            "one with `agentgym sft`, or name a directory with --policy."
        )
    if path.name not in known:
        raise DataError(f"There is no seed policy '{name}'.{did_you_mean(path.name, known)}")
    return path


def full_policy_name(name: str, env_id: str) -> str:
    """Return the name of a policy, with the environment's own seed policy in the place of `seed`."""
    return renamed(name, seed_of_env(short_name(env_id))) if model_name(name) == SEED else name


def short_name(env_id: str) -> str:
    return env_id if ":" in env_id else registry.env_spec(env_id).short_name
