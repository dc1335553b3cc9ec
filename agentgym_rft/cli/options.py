"""Command-line options made from the configuration: one `--section.key` for every leaf of its models."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import typer

from agentgym_rft.cli.config_help import help_all_parameter
from agentgym_rft.config.base import Section
from agentgym_rft.config.leaves import Leaf, leaves
from agentgym_rft.config.load import closest_leaf, parse_override, parse_value
from agentgym_rft.errors import ConfigError

Override = tuple[Sequence[str], Any]


def accepts_config(model: type[Section]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for every leaf of `model`; it gets them as its argument `overrides`.

    The command's other parameters stay its own options. `--help-all` is added to them, and the leaves are shown by
    `ConfigCommand`. Options without a leaf, an option or a mapping above them are refused with the closest name.
    """
    config_leaves = list(leaves(model))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "overrides"]
        own_options = [f"--{p.name.replace('_', '-')}" for p in own]

        @functools.wraps(command)
        def wrapper(context: typer.Context, **values: Any) -> None:
            del values["help_all"]
            texts = [(leaf, values.pop(leaf.parameter)) for leaf in config_leaves]
            overrides: list[Override] = [
                (leaf.path, parse_option(leaf, text)) for leaf, text in texts if text is not None
            ]
            overrides += mapping_overrides(context.args, config_leaves, own_options)
            command(**values, overrides=overrides)

        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *own, help_all_parameter(), *map(_parameter, config_leaves)]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        vars(wrapper)["__signature__"] = signature.replace(parameters=parameters)
        vars(wrapper)["config_model"] = model
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


def parse_option(leaf: Leaf, text: str) -> Any:
    """Return the value of an option's text: as it is for plain text keys, else as YAML."""
    if leaf.annotation is str or (text != "null" and leaf.annotation == str | None):
        return text
    return parse_value(leaf.option, text)


def mapping_overrides(args: Sequence[str], config_leaves: Sequence[Leaf], own_options: Sequence[str]) -> list[Override]:
    """Return `--env.options.data=DIR` or `--env.options.data DIR` for keys below a mapping.

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
    return closest_leaf(option[2:], names).replace("mean '", "mean '--") or " See --help-all for all options."


def _parameter(leaf: Leaf) -> inspect.Parameter:
    """Return the option of a leaf; hidden, because `ConfigCommand` shows it."""
    return inspect.Parameter(
        leaf.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=typer.Option(None, leaf.option, hidden=True),
        annotation=str | None,
    )
