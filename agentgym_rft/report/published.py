"""Published numbers: each with its source and protocol, never ranked with our own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentgym_rft.config.yaml_text import parse_yaml
from agentgym_rft.errors import DataError

BASIS = {
    "paper": "from the paper itself",
    "repository": "from the authors' repository",
    "secondary": "quoted from another paper or page",
    "memory": "from memory, not checked",
}


class PublishedRow(BaseModel):
    """One published result. `score` and `success` are percent; both ends are equal but where a range was published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str
    system: str
    model: str = ""
    score: float | None = Field(None, ge=0, le=100)
    success: float | None = Field(None, ge=0, le=100)
    success_to: float | None = Field(None, ge=0, le=100, description="upper end of a published range")
    protocol: str = Field(min_length=1)
    source: str = Field(min_length=1)
    basis: Literal["paper", "repository", "secondary", "memory"]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: tuple[PublishedRow, ...]


def default_path() -> Path | None:
    """Return the file beside the package in a source checkout; None where there is none, as in a wheel."""
    path = Path(__file__).parents[2] / "benchmarks" / "published.yaml"
    return path if path.is_file() else None


def read_published(path: Path, env_ids: Sequence[str]) -> list[PublishedRow]:
    """Return the published rows of some environments, in the order of the file.

    Raises:
        DataError: the file is missing or damaged, or a row lacks its protocol, source or basis.
    """
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read published results from '{path}': {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is no YAML file: {' '.join(str(error).split())}.") from error
    try:
        rows = _File.model_validate(data).rows
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"'{path}', {where}: {first['msg'][0].lower()}{first['msg'][1:]}.") from error
    return [row for row in rows if row.env in env_ids]
