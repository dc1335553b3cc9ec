"""Keys that configurations of earlier versions have: what they are called, or what stands for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentgym_rft.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OldKey:
    """A key that is gone.

    Args:
        default: its default, which says nothing and is dropped.
        advice: what to do instead, a sentence.
        new: the key that takes its value; "" if none does.
        new_default: of that key, which the old one stands over.
    """

    default: Any
    advice: str
    new: str = ""
    new_default: Any = None


OLD_KEYS = {
    "trainer.betas": OldKey([0.9, 0.95], "AdamW has 0.9 and 0.95: leave it out."),
    "trainer.parallel.idle_timeout_s": OldKey(86400.0, "The other processes wait for a day: leave it out."),
    "team.pool.power": OldKey(2.0, "Prioritised draws take the square: leave it out."),
    "rollout.tasks.ema": OldKey(0.5, "A task's newest group weighs half: leave it out."),
    "rollout.tasks.recheck": OldKey(5, "A solved task is played every fifth time: leave it out."),
    "rollout.experts.noise": OldKey(0.0, "The expert plays without noise: leave it out."),
    "rollout.ray.num_threads": OldKey(None, "A worker has as many threads as CPUs: set rollout.ray.num_cpus."),
    "rollout.ray.connect_timeout_s": OldKey(30.0, "An address is tried for 30 s: leave it out."),
    "rollout.ray.policy_cpus": OldKey(1.0, "Set rollout.ray.num_cpus.", "rollout.ray.num_cpus", 1.0),
    "rollout.ray.policy_gpus": OldKey(0.0, "Set rollout.ray.num_gpus.", "rollout.ray.num_gpus", 0.0),
    "rollout.ray.env_processes": OldKey(
        0, "Set rollout.processes.num_processes.", "rollout.processes.num_processes", None
    ),
    "policy.vllm.max_lora_rank": OldKey(0, "No run serves adapters: leave it out."),
}


def renew(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration without old keys, and the names of those that said something.

    Raises:
        ConfigError: an old key has a value that nothing gives any more, or that contradicts its new key.
    """
    result: dict[str, Any] = _copied(data)
    found = []
    for name, old in OLD_KEYS.items():
        *path, key = name.split(".")
        section = _section(result, path)
        if section is None or key not in section:
            continue
        value = section.pop(key)
        if value == old.default:
            continue
        found.append(name)
        if not old.new:
            raise ConfigError(f"The configuration key '{name}' is gone, and its value {value!r} with it. {old.advice}")
        *path, key = old.new.split(".")
        target = _section(result, path, make=True)
        if target is None or target.get(key, old.new_default) not in (old.new_default, value):
            raise ConfigError(f"The configuration key '{name}' is gone, and '{old.new}' says otherwise. {old.advice}")
        target[key] = value
    return result, found


def _copied(value: Any) -> Any:
    return {key: _copied(part) for key, part in value.items()} if isinstance(value, Mapping) else value


def _section(data: dict[str, Any], path: list[str], *, make: bool = False) -> dict[str, Any] | None:
    """Return the mapping at a path; None where there is none, unless it is to be made."""
    section = data
    for name in path:
        if make and name not in section:
            section[name] = {}
        part = section.get(name)
        if not isinstance(part, dict):
            return None
        section = part
    return section
