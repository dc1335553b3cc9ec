"""Environments by id, short name or `module:Class`, and how one is made."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast, overload

import gymnasium as gym

from agentgym_rft.errors import ConfigError, RegistryError, did_you_mean
from agentgym_rft.registry.base import Maker, Registry, load_object

ENV_GROUP = "agentgym_rft.envs"
_ENV_ID = re.compile(r"(?:(?P<namespace>[\w.-]+)/)?(?P<name>[\w.-]+?)-v(?P<version>\d+)")


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """A registered environment: its id, its class (or `module:Class`) and the keyword arguments it is made with."""

    id: str
    entry_point: str | Callable[..., Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str | Callable[..., Any]:
        return self.entry_point

    @property
    def short_name(self) -> str:
        """The id without namespace and version, in lower case: `alfworld`."""
        return _forms(self.id)[2].lower()


class _EnvRegistry(Registry[EnvSpec]):
    """Environments: imported when they are made, and made known to gymnasium, too."""

    def register(self, name: str, value: EnvSpec | str) -> None:
        spec = EnvSpec(name, value) if isinstance(value, str) else value
        if _ENV_ID.fullmatch(name) is None:
            raise RegistryError(f"'{name}' is not an environment id. Write Name-v0 or namespace/Name-v0.")
        before = self._entries.get(name)
        super().register(name, spec)
        if before is not None and self._entries[name] is not before:
            gym.registry.pop(name, None)
        if name not in gym.registry:
            # gymnasium's passive checker looks at every step; `check_env` is the stricter one, run once.
            gym.register(name, entry_point=spec.entry_point, kwargs=dict(spec.kwargs), disable_env_checker=True)

    def _at(self, path: str) -> EnvSpec:
        return EnvSpec(path, path)


_ENVS = _EnvRegistry("Environment", ENV_GROUP)


@overload
def register_env(
    id: str, entry_point: str | Callable[..., Any], *, kwargs: Mapping[str, Any] | None = None
) -> None: ...


@overload
def register_env(
    id: str, entry_point: None = None, *, kwargs: Mapping[str, Any] | None = None
) -> Callable[[Maker], Maker]: ...


def register_env(
    id: str, entry_point: str | Callable[..., Any] | None = None, *, kwargs: Mapping[str, Any] | None = None
) -> Callable[[Maker], Maker] | None:
    """Make an environment known here and to `gymnasium.make`; without an entry point, a decorator that does so.

    Args:
        id: `Name-v0` or `namespace/Name-v0`.
        entry_point: the class, or `module:Class`, imported when the environment is first made.
        kwargs: arguments of the class; those given to `make` are laid over them.
    Raises:
        RegistryError: the id is malformed, or taken by another entry point.
    """
    if entry_point is None:
        return _ENVS.decorator(id, lambda maker: EnvSpec(id, maker, dict(kwargs or {})))
    _ENVS.register(id, EnvSpec(id, entry_point, dict(kwargs or {})))
    return None


def env_specs() -> list[EnvSpec]:
    """Return all registered environments by id, those of installed packages included."""
    return list(_ENVS.values())


def env_spec(id: str) -> EnvSpec:
    """Return the environment of a full id or of `module:Class`. Raises `RegistryError`."""
    return _ENVS.lookup(id)


def resolve_env_id(name: str) -> str:
    """Return the full id of an id or of a short name in any case (`alfworld`, `ALFWorld-v0`); `module:Class` stays as
    it is.

    A name without version means the highest one. Raises `RegistryError` for an unknown or ambiguous name.
    """
    if ":" in name:
        return name
    ids = list(_ENVS)
    matches = [id for id in ids if name.lower() in [form.lower() for form in _forms(id)]]
    if not matches:
        raise _ENVS.not_registered(name, {_in_form_of(name, id) for id in ids})
    if len({_forms(id)[3] for id in matches}) > 1:
        raise RegistryError(f"Environment '{name}' is ambiguous. Write one of: {', '.join(matches)}.")
    return max(matches, key=_version)


def make(id: str, /, **kwargs: Any) -> Any:
    """Return a new environment, unwrapped, of whatever kind its class is.
    `agentgym_rft.envs.make_env` gives a `TextEnv`.

    Args:
        id: whatever `resolve_env_id` takes.
        kwargs: arguments of the environment class.
    Raises:
        RegistryError: the name is unknown, or its module or class is missing.
        ConfigError: the class takes no such argument, or needs one that is not given.
    """
    full_id = resolve_env_id(id)
    spec = env_spec(full_id)
    make_env = entry_point(full_id)
    arguments = {**spec.kwargs, **kwargs}
    _check_arguments(full_id, inspect.signature(make_env), arguments)
    env = make_env(**arguments)
    if isinstance(env, gym.Env) and full_id in gym.registry:
        env.spec = gym.envs.registration.EnvSpec(full_id, entry_point=spec.entry_point, kwargs=arguments)
    return env


def entry_point(id: str) -> Callable[..., Any]:
    """Return the class or function that makes an environment, imported. Raises `RegistryError` as `make` does."""
    spec = env_spec(resolve_env_id(id))
    found = load_object(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    is_registered = spec.id in _ENVS  # a function may be, too; what a name alone leads to must not be called
    if not callable(found) or not (is_registered or _is_env_class(found)):
        kind = "another class" if isinstance(found, type) else f"a {type(found).__name__}"
        raise RegistryError(
            f"'{spec.entry_point}' is {kind}, expected a class of environments: an agentgym_rft.envs.TextEnv, or one "
            "of gymnasium or PettingZoo with text on both sides."
        )
    return cast(Callable[..., Any], found)


def _is_env_class(found: object) -> bool:
    """Return True for a class of gymnasium's or PettingZoo's environments, of which the latter is not imported."""
    if not isinstance(found, type):
        return False
    return issubclass(found, gym.Env) or any(base.__module__.startswith("pettingzoo.") for base in found.__mro__)


def _check_arguments(id: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> None:
    parameters = signature.parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in parameters and not takes_any:
            raise ConfigError(f"Environment '{id}' has no option '{key}'.{did_you_mean(key, parameters)}")
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"Environment '{id}' cannot be made: {error}.") from error


def _forms(id: str) -> tuple[str, str, str, str]:
    """Return the ways to write an id: `n/Name-v0`, `Name-v0`, `Name`, `n/Name`."""
    without_namespace = id.rpartition("/")[2]
    return id, without_namespace, without_namespace.rpartition("-v")[0], id.rpartition("-v")[0]


def _version(id: str) -> int:
    return int(id.rpartition("-v")[2])


def _in_form_of(name: str, id: str) -> str:
    """Return the id written like `name`: with a namespace and a version only if `name` has them."""
    has_version = re.search(r"-v\d*$", name, re.IGNORECASE) is not None
    full, versioned, short, unversioned = _forms(id)
    if "/" in name:
        return full if has_version else unversioned
    return versioned if has_version else short


register_env("agentgym/ALFWorld-v0", "agentgym_rft.envs.alfworld.env:ALFWorldEnv")
register_env("agentgym/Arithmetic-v0", "agentgym_rft.envs.arithmetic.env:ArithmeticEnv")
register_env("agentgym/Bargain-v0", "agentgym_rft.envs.bargain.env:BargainEnv")
register_env("agentgym/FrozenLake-v0", "agentgym_rft.envs.frozen_lake.env:FrozenLakeEnv")
register_env("agentgym/HouseholdTeam-v0", "agentgym_rft.envs.household_team.env:HouseholdTeamEnv")
register_env("agentgym/KuhnPoker-v0", "agentgym_rft.envs.kuhn_poker.env:KuhnPokerEnv")
register_env("agentgym/SearchQA-v0", "agentgym_rft.envs.search_qa.env:SearchQAEnv")
register_env("agentgym/Sokoban-v0", "agentgym_rft.envs.sokoban.env:SokobanEnv")
register_env("agentgym/WebShop-v0", "agentgym_rft.envs.webshop.env:WebShopEnv")
register_env("agentgym/TextArena-v0", "agentgym_rft.envs.adapters.textarena:TextArenaEnv")
register_env("agentgym/TextWorld-v0", "agentgym_rft.envs.textworld.env:TextWorldEnv")
