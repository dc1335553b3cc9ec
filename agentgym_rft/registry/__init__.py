"""Names of what plugs in: environments, algorithms, entropy controls, operators and rollout strategies.

All become known in the same three ways: by a decorator, by an entry point of an installed package, and as `module:name`
wherever a name is taken. `base` is the registry that they share, `plugins` adds options, `environments` is that kind's.
"""

from agentgym_rft.registry.base import load_object
from agentgym_rft.registry.environments import (
    ENV_GROUP,
    EnvSpec,
    entry_point,
    env_spec,
    env_specs,
    make,
    register_env,
    resolve_env_id,
)

__all__ = [
    "ENV_GROUP",
    "EnvSpec",
    "entry_point",
    "env_spec",
    "env_specs",
    "load_object",
    "make",
    "register_env",
    "resolve_env_id",
]
