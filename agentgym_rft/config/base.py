"""The base of all sections of a configuration and of all options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from agentgym_rft.errors import ConfigError, did_you_mean

LARGEST = 2**53  # of whole numbers: larger ones are not exact everywhere, and results and torch refuse them
MAX_THREADS = 1024
MAX_PROCESSES = 1024
MAX_SAMPLES = 10_000  # of a task
MAX_RATE = 1e30  # torch cannot take a step with a learning rate near the largest number of float32
MAIN: dict[str, JsonValue] = {"is_main": True}  # json_schema_extra of the keys that `--help` shows


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values are fixed after loading, numbers are finite and whole ones
    at most `LARGEST`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _is_bounded(cls, given: Any) -> Any:
        if isinstance(given, int) and abs(given) > LARGEST:
            raise PydanticCustomError("too_large", f"expected a whole number up to {LARGEST}")
        return given


class Options(Section):
    """Base of the options of one algorithm, entropy control or operator."""


AnyOptions = TypeVar("AnyOptions", bound=Options)


def read_options(model: type[AnyOptions], data: Mapping[str, Any], owner: str) -> AnyOptions:
    """Return the options in a plain mapping; `owner` is what they belong to, as in "Algorithm 'grpo'".

    Raises:
        ConfigError: an unknown option or a value of the wrong kind.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(_sentence(error, model, owner)) from error


def _sentence(error: ValidationError, model: type[Options], owner: str) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(name, model.model_fields) if model.model_fields else " It has none."
        return f"{owner} has no option '{name}'.{hint}"
    message = first["msg"]
    return f"Option '{name}' of {owner[0].lower()}{owner[1:]} is {first['input']!r}: {message[0].lower()}{message[1:]}."
