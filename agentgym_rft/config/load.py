"""The configuration of a run: pydantic models <- YAML recipe <- `--section.key=value`.

`load_config` is the only way in. It names the wrong key, the expected type and the closest known key.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import ValidationError

from agentgym_rft.config.base import Section
from agentgym_rft.config.leaves import leaves
from agentgym_rft.config.old_keys import OLD_KEYS, renew
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.config.yaml_text import parse_yaml
from agentgym_rft.errors import ConfigError, did_you_mean

S = TypeVar("S", bound="Section")
_log = logging.getLogger(__name__)


def shipped_dir(kind: Literal["agents", "trainers"]) -> Path:
    """Return the folder of shipped cards or recipes: inside the wheel, or at the repository root in a source
    checkout.
    """
    package = Path(str(resources.files("agentgym_rft")))
    inside = package / "_shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def find_yaml(kind: Literal["agents", "trainers"], name: str) -> Path:
    """Return the YAML file of a shipped name or a path. Raises `ConfigError` naming the closest shipped one."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if os.path.isfile(path):  # False, too, where the name is too long for a file
            return path
        raise ConfigError(f"There is no file '{name}'. Give an existing YAML file or a shipped name.")
    folder = shipped_dir(kind)
    if os.path.isfile(folder / f"{name}.yaml"):
        return folder / f"{name}.yaml"
    what = {"agents": "agent card", "trainers": "recipe"}[kind]
    raise ConfigError(f"No {what} is called '{name}'.{did_you_mean(name, [p.stem for p in folder.glob('*.yaml')])}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file. Raises `ConfigError` if it is not one."""
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read '{path}': {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"'{path}' is not valid YAML: {_yaml_problem(error)}.") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"'{path}' holds a {type(data).__name__}, expected a mapping of sections.")
    return data


def read_config(path: Path) -> dict[str, Any]:
    """Return the mapping in a configuration file. Keys that earlier versions had are read, too, with a note.

    Raises:
        ConfigError: the file is no mapping, or one of those keys has a value that no other key can give.
    """
    data, old = renew(read_yaml(path))
    if old:
        _log.warning(
            "'%s' has keys of an earlier version, which are read as docs/configuration.md says: %s.",
            path,
            ", ".join(old),
        )
    return data


def _yaml_problem(error: UnicodeDecodeError | yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0].rstrip(".")


def parse_override(text: str) -> tuple[list[str], Any]:
    """Return `section.key=value` -> path and YAML value."""
    key, sep, value = text.partition("=")
    if not sep or "." not in key:
        raise ConfigError(f"'{text}' is not an override. Write section.key=value, for example trainer.steps=20.")
    return key.split("."), parse_value(key, value)


def parse_value(key: str, value: str) -> Any:
    """Return the value of a key's text, read as YAML."""
    try:
        return parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value in '{key}={value}' is not valid YAML; quote it.") from error


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `update` laid over it, mapping by mapping."""
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return `["a", "b"], 1` -> `{"a": {"b": 1}}`."""
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def load_config(
    recipe: str | None = None, overrides: Sequence[tuple[Sequence[str], Any]] = (), base: str | None = None
) -> Config:
    """Return the resolved configuration of a recipe (shipped name or file) with overrides laid over it, in order.

    A recipe that names no environment is a method: it is laid over the recipe `base` of an environment, whose section
    `algorithm` it replaces as a whole.
    """
    data = _read_recipe(recipe, Config)
    if base is not None and "env" not in data:
        setting = _read_recipe(base, Config)
        data = merge({**setting, "algorithm": {}} if "algorithm" in data else setting, data)
    return validate_config(merge_overrides(data, overrides))


def load_sft_config(recipe: str | None = None, overrides: Sequence[tuple[Sequence[str], Any]] = ()) -> SftConfig:
    """Return the configuration of a supervised run, loaded as `load_config` does."""
    return validate_sft_config(merge_overrides(_read_recipe(recipe, SftConfig), overrides))


def _read_recipe(recipe: str | None, model: type[Section]) -> dict[str, Any]:
    """Return what a recipe holds, {} for none.
    It is checked by itself, so that an override cannot hide its mistakes.
    """
    if recipe is None:
        return {}
    path = find_yaml("trainers", recipe)
    try:
        data = read_config(path)
        _validate(model, data)
    except ConfigError as error:
        raise ConfigError(f"Recipe '{path}': {error}") from error
    return data


def merge_overrides(data: Mapping[str, Any], overrides: Sequence[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """Return `data` with the value at each path replaced, in order."""
    result = dict(data)
    for path, value in overrides:
        result = merge(result, nest(path, value))
    return result


def validate_config(data: Mapping[str, Any]) -> Config:
    """Return the configuration in a plain mapping. Raises `ConfigError` with one sentence about the first problem."""
    return _validate(Config, data)


def validate_sft_config(data: Mapping[str, Any]) -> SftConfig:
    """Return the configuration of a supervised run in a plain mapping, as `validate_config` does."""
    return _validate(SftConfig, data)


def closest_leaf(name: str, names: Sequence[str]) -> str:
    """Return a sentence part: what stands for an old key, else the key in another section, else the closest one.

    It is empty if none is close.
    """
    if name in OLD_KEYS:
        return f" {OLD_KEYS[name].advice}"
    elsewhere = [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    if elsewhere:
        return f" Did you mean '{elsewhere[0]}'?"
    hint = did_you_mean(name, names)
    return hint if hint.startswith(" Did") else ""


def _validate(model: type[S], data: Mapping[str, Any]) -> S:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_sentence(error, model)) from error


def _mapped_keys(path: Sequence[str], model: type[Section]) -> list[str]:
    """Return the keys beside one in a mapping of sections: of `team.seats.planner.crad`, those of the seat."""
    for leaf in leaves(model):
        if leaf.is_mapping and leaf.path == tuple(path[:-2]):
            (_, section) = get_args(leaf.annotation)
            return [".".join((*path[:-1], name)) for name in section.model_fields]
    return []


def _sentence(error: ValidationError, model: type[Section]) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if part != "[key]"]  # that of a mapping with fixed keys
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        if len(path) == 1:
            return f"There is no configuration section '{name}'.{did_you_mean(name, model.model_fields)}"
        hint = (
            did_you_mean(name, _mapped_keys(path, model))
            or closest_leaf(name, [leaf.name for leaf in leaves(model)])
            or f" See the options that start with --{path[0]} in --help-all."
        )
        return f"There is no configuration key '{name}'.{hint}"
    if first["type"] == "value_error":
        return f"Configuration section '{name}': {first['ctx']['error']}."
    expected = "expected a mapping" if first["type"] in ("model_type", "dict_type") else first["msg"]
    return f"Configuration key '{name}' is {first.get('input')!r}: {expected[0].lower()}{expected[1:]}."
