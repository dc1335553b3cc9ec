"""Command-line options made from the configuration: one `--section.key` for every leaf of its models."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic_core import PydanticUndefined

from agentgym_rft.config.base import Section
from agentgym_rft.config.load import closest_leaf, parse_override, parse_value
from agentgym_rft.errors import ConfigError

Override = tuple[Sequence[str], Any]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key of a configuration that holds a value."""

    path: tuple[str, ...]
    annotation: Any
    default: Any
    description: str

    @property
    def option(self) -> str:
        return "--" + ".".join(self.path)

    @property
    def parameter(self) -> str:
        return "__".join(self.path)

    @property
    def is_mapping(self) -> bool:
        return get_origin(self.annotation) is dict

    def parse(self, text: str) -> Any:
        """The value of the option's text: as it is for plain text keys, else as YAML."""
        if self.annotation is str or (text != "null" and self.annotation == str | None):
            return text
        return parse_value(self.option, text)


def leaves(section: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """All leaves of a configuration model, in order."""
    for name, field in section.model_fields.items():
        path = (*prefix, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, path)
        else:
            default = field.get_default(call_default_factory=True)
            default = None if default is PydanticUndefined else default
            yield Leaf(path, field.annotation, default, field.description or "")


def accepts_config(model: type[Section]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for every leaf of `model`; it gets them as its argument `overrides`.

    The command's other parameters stay its own options. Options without a leaf, an option or a mapping above them are
    refused with the closest name.
    """
    config_leaves = list(leaves(model))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "overrides"]
        own_options = [f"--{p.name.replace('_', '-')}" for p in own]

        @functools.wraps(command)
        def wrapper(context: typer.Context, **values: Any) -> None:
            texts = [(leaf, values.pop(leaf.parameter)) for leaf in config_leaves]
            overrides: list[Override] = [(leaf.path, leaf.parse(text)) for leaf, text in texts if text is not None]
            overrides += mapping_overrides(context.args, config_leaves, own_options)
            command(**values, overrides=overrides)

        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *own, *map(_parameter, config_leaves)]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def mapping_overrides(args: Sequence[str], config_leaves: Sequence[Leaf], own_options: Sequence[str]) -> list[Override]:
    """`--env.options.data=DIR` or `--env.options.data DIR` for keys below a mapping.

    Raises:
        ConfigError: an argument is no option, lacks its value, or names nothing known.
    """
    overrides: list[Override] = []
    rest = list(args)
    while rest:
        option, has_value, value = rest.pop(0).partition("=")
        if not option.startswith("--"):
            raise ConfigError(f"'{option}' is not expected here; options are written --section.key=value.")
        path = option[2:].split(".")
        if not any(leaf.is_mapping and tuple(path[: len(leaf.path)]) == leaf.path for leaf in config_leaves):
            raise ConfigError(f"There is no option '{option}'.{_closest(option, config_leaves, own_options)}")
        if not has_value:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"Option '{option}' needs a value: {option}=value.")
            value = rest.pop(0)
        overrides.append(parse_override(f"{option[2:]}={value}"))
    return overrides


def _closest(option: str, config_leaves: Sequence[Leaf], own_options: Sequence[str]) -> str:
    names = [*(name[2:] for name in own_options), *(leaf.option[2:] for leaf in config_leaves)]
    return closest_leaf(option[2:], names).replace("mean '", "mean '--") or " See --help for all options."


def _parameter(leaf: Leaf) -> inspect.Parameter:
    default = f"(default: {_shown(leaf.default)})"
    option = typer.Option(
        None,
        leaf.option,
        help=f"{leaf.description} {default}".strip(),
        metavar=type_name(leaf.annotation),
        show_default=False,
        rich_help_panel=f"Configuration: {leaf.path[0]}" if len(leaf.path) > 1 else "Configuration",
    )
    return inspect.Parameter(
        leaf.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=option,
        annotation=str | None,
    )


def type_name(annotation: Any) -> str:
    """A short name of a leaf's type: `int`, `a|b|c`, `float,float`, `mapping`."""
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


def _shown(default: Any) -> str:
    if default is None:
        return "null"
    if isinstance(default, tuple):
        return ",".join(_shown(part) for part in default)
    if isinstance(default, bool):
        return str(default).lower()
    return str(default)
