"""Lookup by name: environments here, and the `Registry` that agents, algorithms and strategies use as well.

An entry may be an object or the string `module:attribute`, which is imported at its first lookup.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast, overload

import gymnasium as gym

from agentgym_rft.errors import ConfigError, RegistryError, did_you_mean

T = TypeVar("T")
Maker = TypeVar("Maker", bound=Callable[..., Any])

ENV_GROUP = "agentgym_rft.envs"
_ENV_ID = re.compile(r"(?:(?P<namespace>[\w.-]+)/)?(?P<name>[\w.-]+?)-v(?P<version>\d+)")


class Registry(Generic[T]):
    """Names of one kind of thing. Installed packages may add names through an entry-point group."""

    def __init__(self, what: str, group: str | None = None) -> None:
        self.what = what
        self._group = group
        self._is_discovered = group is None
        self._entries: dict[str, T | str] = {}

    def register(self, name: str, value: T | str) -> None:
        """Add a name. The same value again changes nothing; another one raises `RegistryError`."""
        if self._entries.setdefault(name, value) != value:
            raise RegistryError(f"{self.what} '{name}' is registered already, as {self._entries[name]!r}.")

    def names(self) -> list[str]:
        """All names, sorted; those of installed packages included."""
        self._discover()
        return sorted(self._entries)

    def entry(self, name: str) -> T | str:
        """What was registered under a name, not imported. Raises `RegistryError` with the closest name."""
        if name not in self._entries:
            self._discover()
        if name not in self._entries:
            raise self.not_registered(name, self._entries)
        return self._entries[name]

    def lookup(self, name: str) -> T:
        """The object under a name, imported if it was given as `module:attribute`. Raises `RegistryError`."""
        value = self.entry(name)
        return cast(T, load_object(value)) if isinstance(value, str) else value

    def not_registered(self, name: str, known: Iterable[str]) -> RegistryError:
        """The error for an unknown name."""
        return RegistryError(f"{self.what} '{name}' is not registered.{did_you_mean(name, known)}")

    def _discover(self) -> None:
        if self._is_discovered:
            return
        self._is_discovered = True
        from importlib.metadata import entry_points  # 40 ms, which `import agentgym_rft` need not pay

        for point in entry_points(group=self._group or ""):
            self.register(point.name, point.value)


def load_object(path: str) -> Any:
    """The object at `module:attribute`. Raises `RegistryError` if either is missing."""
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise RegistryError(f"'{path}' names no object. Write module:Name, for example my_package.my_env:MyEnv.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise RegistryError(f"'{path}' cannot be imported: there is no module '{error.name}'.") from error
    if attribute not in vars(module):
        public = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise RegistryError(f"Module '{module_name}' has no '{attribute}'.{did_you_mean(attribute, public)}")
    return vars(module)[attribute]


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """A registered environment: its id, its class (or `module:Class`) and the keyword arguments it is made with."""

    id: str
    entry_point: str | Callable[..., Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def short_name(self) -> str:
        """The id without namespace and version, in lower case: `alfworld`."""
        return _forms(self.id)[2].lower()


class _EnvRegistry(Registry[EnvSpec]):
    """Environments; what an installed package adds is made known to gymnasium, too."""

    def register(self, name: str, value: EnvSpec | str) -> None:
        spec = EnvSpec(name, value) if isinstance(value, str) else value
        if _ENV_ID.fullmatch(name) is None:
            raise RegistryError(f"'{name}' is not an environment id. Write Name-v0 or namespace/Name-v0.")
        if _is_defined_again(self._entries.get(name), spec):
            del self._entries[name]
            gym.registry.pop(name, None)
        super().register(name, spec)
        if name not in gym.registry:
            # gymnasium's passive checker looks at every step; `check_env` is the stricter one, run once.
            gym.register(name, entry_point=spec.entry_point, kwargs=dict(spec.kwargs), disable_env_checker=True)


def _is_defined_again(old: EnvSpec | str | None, new: EnvSpec) -> bool:
    """True if a class takes the place of one of the same name: its notebook cell ran again, or its module did."""
    if not isinstance(old, EnvSpec) or not isinstance(old.entry_point, type) or not isinstance(new.entry_point, type):
        return False
    before, after = old.entry_point, new.entry_point
    is_same_place = (before.__module__, before.__qualname__) == (after.__module__, after.__qualname__)
    return is_same_place and before is not after


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
    if entry_point is not None:
        _ENVS.register(id, EnvSpec(id, entry_point, dict(kwargs or {})))
        return None

    def register(maker: Maker) -> Maker:
        _ENVS.register(id, EnvSpec(id, maker, dict(kwargs or {})))
        return maker

    return register


def env_specs() -> list[EnvSpec]:
    """All registered environments by id, those of installed packages included."""
    return [env_spec(name) for name in _ENVS.names()]


def env_spec(id: str) -> EnvSpec:
    """The environment of a full id. Raises `RegistryError`."""
    return _ENVS.lookup(id)


def resolve_env_id(name: str) -> str:
    """The full id of an id or of a short name in any case (`alfworld`, `ALFWorld-v0`); `module:Class` stays as it is.

    A name without version means the highest one. Raises `RegistryError` for an unknown or ambiguous name.
    """
    if ":" in name:
        return name
    ids = _ENVS.names()
    matches = [id for id in ids if name.lower() in [form.lower() for form in _forms(id)]]
    if not matches:
        raise _ENVS.not_registered(name, {_in_form_of(name, id) for id in ids})
    if len({_forms(id)[3] for id in matches}) > 1:
        raise RegistryError(f"Environment '{name}' is ambiguous. Write one of: {', '.join(matches)}.")
    return max(matches, key=_version)


def make(id: str, /, **kwargs: Any) -> Any:
    """A new environment, unwrapped, of whatever kind its class is. `agentgym_rft.envs.make_env` gives a `TextEnv`.

    Args:
        id: whatever `resolve_env_id` takes.
        kwargs: arguments of the environment class.
    Raises:
        RegistryError: the name is unknown, or its module or class is missing.
        ConfigError: the class takes no such argument, or needs one that is not given.
    """
    full_id = resolve_env_id(id)
    spec = _spec_of(full_id)
    make_env = entry_point(full_id)
    arguments = {**spec.kwargs, **kwargs}
    _check_arguments(full_id, inspect.signature(make_env), arguments)
    env = make_env(**arguments)
    if isinstance(env, gym.Env) and full_id in gym.registry:
        env.spec = gym.envs.registration.EnvSpec(full_id, entry_point=spec.entry_point, kwargs=arguments)
    return env


def entry_point(id: str) -> Callable[..., Any]:
    """The class or function that makes an environment, imported. Raises `RegistryError` as `make` does."""
    spec = _spec_of(resolve_env_id(id))
    found = load_object(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    if not callable(found):
        raise RegistryError(f"'{spec.entry_point}' is a {type(found).__name__}, expected an environment class.")
    return cast(Callable[..., Any], found)


def _spec_of(full_id: str) -> EnvSpec:
    return EnvSpec(full_id, full_id) if ":" in full_id else env_spec(full_id)


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
    """The ways to write an id: `n/Name-v0`, `Name-v0`, `Name`, `n/Name`."""
    without_namespace = id.rpartition("/")[2]
    return id, without_namespace, without_namespace.rpartition("-v")[0], id.rpartition("-v")[0]


def _version(id: str) -> int:
    return int(id.rpartition("-v")[2])


def _in_form_of(name: str, id: str) -> str:
    """The id written like `name`: with a namespace and a version only if `name` has them."""
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
