"""Registered functions with options: algorithms, entropy controls and operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentgym_rft.config.base import Options, read_options
from agentgym_rft.errors import ConfigError, RegistryError
from agentgym_rft.registry.base import FunctionRegistry

Build = TypeVar("Build", bound=Callable[..., Any])
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Plugin(Generic[Build]):
    """A registered function, and the model of the options that it is called with."""

    build: Build
    options: type[Options] = Options

    @property
    def source(self) -> Build:
        return self.build


class PluginRegistry(FunctionRegistry[Plugin[Build]]):
    """Functions that each declare their own options.

    Args:
        gives: the type of what they return, or an abstract one such as `Callable`.
    """

    def __init__(self, kind: str, group: str, takes: tuple[str, ...], gives: Any) -> None:
        super().__init__(kind, group, Plugin, takes)
        self._gives = gives

    def configured(self, name: str, data: Mapping[str, Any]) -> tuple[Build, Options]:
        """Return the function of a name with its options. Raises `RegistryError`, or `ConfigError` for an option."""
        plugin = self.lookup(name)
        return plugin.build, read_options(plugin.options, data, f"{self.kind} '{name}'")

    def listed(self, entries: Iterable[str | Mapping[str, Any]], key: str) -> Iterator[tuple[str, Build, Options]]:
        """Yield name, function and options of each entry of a configured list: a name, or a mapping with `name`.

        Raises:
            RegistryError: a name is not registered.
            ConfigError: an entry or an option is wrong.
        """
        for entry in entries:
            data = {"name": entry} if isinstance(entry, str) else dict(entry)
            name = data.pop("name", None)
            if not isinstance(name, str):
                raise ConfigError(f"An entry of {key} is {entry!r}: expected a name, or a mapping with 'name'.")
            yield name, *self.configured(name, data)

    def checked(self, name: str, made: Made) -> Made:
        """Return what a function returned. Raises `RegistryError` if that is of another type than it should be."""
        if not isinstance(made, self._gives):
            raise RegistryError(f"{self.kind} '{name}' returns {type(made).__name__}, expected {self._gives.__name__}.")
        return made
