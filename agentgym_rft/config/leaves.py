"""The keys of a configuration that hold a value, as help and documents show them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from agentgym_rft.config.base import MAIN, Section


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key of a configuration that holds a value; `is_main` ones are shown by `--help`."""

    path: tuple[str, ...]
    annotation: Any
    default: Any
    description: str
    is_main: bool

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def option(self) -> str:
        return f"--{self.name}"

    @property
    def parameter(self) -> str:
        return "__".join(self.path)

    @property
    def section(self) -> str:
        return self.path[0] if len(self.path) > 1 else ""

    @property
    def is_mapping(self) -> bool:
        return get_origin(self.annotation) is dict


def leaves(section: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield all leaves of a configuration model, in order."""
    for name, field in section.model_fields.items():
        path = (*prefix, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, path)
        else:
            default = field.get_default(call_default_factory=True)
            default = None if default is PydanticUndefined else default
            yield Leaf(path, field.annotation, default, field.description or "", field.json_schema_extra == MAIN)


def type_name(annotation: Any) -> str:
    """Return a short name of a leaf's type: `int`, `a|b|c`, `float,float`, `mapping`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return "|".join(str(value) for value in arguments)
    if origin is dict:
        return "mapping"
    if origin is tuple:
        return ",".join(type_name(part) for part in arguments if part is not Ellipsis)
    if origin in (Union, types.UnionType):
        return "|".join("null" if part is types.NoneType else type_name(part) for part in arguments)
    return str(annotation.__name__)


def shown(default: Any) -> str:
    """Return a default as it is written: `null`, `true`, `0.9,0.95`."""
    if default is None:
        return "null"
    if isinstance(default, tuple):
        return "[]" if not default else ",".join(shown(part) for part in default)
    if isinstance(default, bool):
        return str(default).lower()
    return str(default)
