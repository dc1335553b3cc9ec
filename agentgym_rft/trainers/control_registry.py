"""The registry of entropy controls, and how a configuration's controls are put on an algorithm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from agentgym_rft.config.base import Options, read_options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError, RegistryError, did_you_mean
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.units import Unit

Place = Literal["advantage", "ratio", "clip", "entropy"]
Build = Callable[[Algorithm, Any, Unit], Algorithm]


@dataclass(frozen=True, slots=True)
class Control:
    """A registered control: the model of its options, and what it does to an algorithm."""

    options: type[Options]
    build: Build


CONTROLS: dict[str, Control] = {}


def register_control(name: str, options: type[Options] = Options) -> Callable[[Build], Build]:
    """Decorator that registers a control. Raises `RegistryError` for a name that is taken."""

    def add(build: Build) -> Build:
        if name in CONTROLS:
            raise RegistryError(f"An entropy control called '{name}' is already registered.")
        CONTROLS[name] = Control(options, build)
        return build

    return add


def unit_of(section: AlgorithmSection, place: Place, default: Unit) -> Unit:
    """The unit of a place: its own setting, else `algorithm.granularity`, else the algorithm's default."""
    own: dict[Place, Unit | None] = {
        "advantage": section.units.advantage,
        "ratio": section.units.ratio,
        "clip": section.units.clip,
        "entropy": section.units.entropy,
    }
    return own[place] or section.granularity or default


def apply_controls(algorithm: Algorithm, section: AlgorithmSection) -> Algorithm:
    """The algorithm with the section's controls, in order.

    Raises:
        RegistryError: a name is not registered.
        ConfigError: an entry, an option or the unit does not fit the control, or a control is listed twice.
    """
    unit = unit_of(section, "entropy", "token")
    seen: set[str] = set()
    for entry in section.controls:
        data = {"name": entry} if isinstance(entry, str) else dict(entry)
        name = data.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(
                f"An entry of algorithm.controls is {entry!r}: expected a name, or a mapping with 'name'."
            )
        if name not in CONTROLS:
            raise RegistryError(f"No entropy control is called '{name}'.{did_you_mean(name, CONTROLS)}")
        if name in seen:
            raise ConfigError(f"Entropy control '{name}' is in algorithm.controls twice; list it once.")
        seen.add(name)
        control = CONTROLS[name]
        options = read_options(control.options, data, f"Entropy control '{name}'")
        algorithm = control.build(algorithm, options, unit)
    return algorithm


def refuse_unit(name: str, unit: Unit, refused: tuple[Unit, ...], why: str) -> None:
    """Raise `ConfigError` if a control makes no sense for a unit."""
    if unit in refused:
        raise ConfigError(f"Entropy control '{name}' cannot judge a {unit}: {why} Set algorithm.units.entropy=token.")
