"""`Registry`: entries of one kind by name, which users add to without a change of this package."""

from __future__ import annotations

import importlib
import inspect
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from agentgym_rft.errors import RegistryError, did_you_mean


class Registered(Protocol):
    """An entry of a registry."""

    @property
    def source(self) -> object:
        """The registered function or class, or `module:name` of it."""


Entry = TypeVar("Entry", bound=Registered)
Maker = TypeVar("Maker", bound=Callable[..., Any])


class Registry(Mapping[str, Entry]):
    """Entries by name; those of installed packages are among them, and are imported when they are first read.

    Args:
        kind: what an entry is, as a sentence begins: `Entropy control`.
        group: the entry-point group through which installed packages add names.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self._group = group
        self._is_discovered = False
        self._entries: dict[str, Entry | str] = {}

    def register(self, name: str, value: Entry | str) -> None:
        """Add a name, with its entry or with `module:name` of what it stands for.

        The same again changes nothing. What is defined again, as by a notebook cell that runs twice, replaces the old.
        Raises `RegistryError` if the name is taken by another.
        """
        known = self._entries.setdefault(name, value)
        if known == value:
            return
        before, after = _source(known), _source(value)
        if not _is_same(before, after):
            raise RegistryError(f"{self.kind} '{name}' is registered already, as {_place(before)}.")
        if not isinstance(after, str):
            self._entries[name] = value

    def decorator(self, name: str, wrap: Callable[[Maker], Entry]) -> Callable[[Maker], Maker]:
        """Return a decorator that registers what it stands above, as the entry that `wrap` makes of it."""

        def register(maker: Maker) -> Maker:
            self.register(name, wrap(maker))
            return maker

        return register

    def lookup(self, name: str) -> Entry:
        """Return the entry of a name or of `module:name`. Raises `RegistryError`, with the closest name."""
        if name in self:
            return self[name]
        if ":" in name:
            return self._at(name)
        raise self.not_registered(name, self)

    def not_registered(self, name: str, known: Iterable[str]) -> RegistryError:
        """Return the error for an unknown name."""
        return RegistryError(f"{self.kind} '{name}' is not registered.{did_you_mean(name, known)}")

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._discover()
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        if name not in self:
            raise KeyError(name)
        value = self._entries[name]
        if isinstance(value, str):
            value = self._entries[name] = self._at(value)
        return value

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._discover()
        return len(self._entries)

    @abstractmethod
    def _at(self, path: str) -> Entry:
        """Return the entry of `module:name`."""

    def _discover(self) -> None:
        if self._is_discovered:
            return
        from importlib.metadata import entry_points  # 40 ms, which `import agentgym_rft` need not pay

        for point in entry_points(group=self._group):
            self.register(point.name, point.value)
        self._is_discovered = True


class FunctionRegistry(Registry[Entry]):
    """Functions that are all called in the same way.

    Args:
        wrap: makes the entry of a function that nobody registered.
        takes: names of the arguments that each is called with.
    """

    def __init__(self, kind: str, group: str, wrap: Callable[[Any], Entry], takes: tuple[str, ...]) -> None:
        super().__init__(kind, group)
        self._wrap = wrap
        self._takes = takes

    def register(self, name: str, value: Entry | str) -> None:
        """Add a name as `Registry` does. Raises `RegistryError` also for what cannot be called as the others are."""
        if not isinstance(value, str):
            self._check(name, value)
        super().register(name, value)

    def _at(self, path: str) -> Entry:
        """Return the entry of `module:name`: the one that its module registered, or else one made with `wrap`."""
        found = load_object(path)
        for entry in self._entries.values():
            if not isinstance(entry, str) and entry.source is found:
                return entry
        entry = self._wrap(found)
        self._check(path, entry)
        return entry

    def _check(self, name: str, entry: Entry) -> None:
        if not callable(entry.source):
            raise RegistryError(f"'{name}' is of type {type(entry.source).__name__}, expected a function.")
        try:
            inspect.signature(entry.source).bind(*self._takes)
        except (TypeError, ValueError) as error:
            arguments = ", ".join(self._takes)
            raise RegistryError(f"{self.kind} '{name}' cannot be called with ({arguments}): {error}.") from error


def load_object(path: str) -> Any:
    """Import and return the object at `module:name`. Raises `RegistryError` if either is missing."""
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise RegistryError(f"'{path}' names no object. Write module:name, for example my_package.my_env:MyEnv.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise RegistryError(f"'{path}' cannot be imported: there is no module '{error.name}'.") from error
    if attribute not in vars(module):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise RegistryError(f"Module '{module_name}' has no '{attribute}'.{did_you_mean(attribute, public)}")
    return vars(module)[attribute]


def _source(value: Registered | str) -> object:
    return value if isinstance(value, str) else value.source


def _place(source: object) -> str:
    """Return `module:name` of a function or class."""
    return source if isinstance(source, str) else f"{source.__module__}:{getattr(source, '__qualname__', source)}"


def _is_same(old: object, new: object) -> bool:
    """Return True for what is defined again in its place, and for what its package both decorates and names by entry
    point.

    That entry point may lead to another module of the package, which offers what is defined elsewhere.
    """
    before, after = _place(old), _place(new)
    if isinstance(old, str) != isinstance(new, str):
        return re.sub(r"\..*:", ":", before) == re.sub(r"\..*:", ":", after)
    return old is not new and not isinstance(new, str) and before == after and "<lambda>" not in after
