"""Writes the synthetic catalogue as three files in the original's format, so that other tools can read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from agentgym_rft.envs.webshop.files import SMALL
from agentgym_rft.envs.webshop.synth.catalogue import raw_human, raw_instructions, raw_product
from agentgym_rft.envs.webshop.synth.plans import plan_of
from agentgym_rft.envs.webshop.synth.store import SyntheticStore
from agentgym_rft.errors import DataError


def export(out: Path, num_products: int, seed: int) -> list[Path]:
    """Write the first products of a seed and return the files: products, attributes, human instructions.

    They have the names of the original's small set up to 1,000 products, of its full set above.

    Args:
        out: folder, made if missing.
        num_products: at least 1.
        seed: 0 or more.
    Raises:
        ConfigError: no product, or a negative seed.
        DataError: a file cannot be written.
    """
    rows = range(len(SyntheticStore(num_products, seed)))
    suffix = "_1000" if num_products <= SMALL else ""
    asked = ((row, raw_human(seed, row)) for row in rows)
    files = {
        f"items_shuffle{suffix}.json": _bracketed("[", "]", (_json(raw_product(seed, row)) for row in rows)),
        f"items_ins_v2{suffix}.json": _bracketed(
            "{", "}", (_pair(seed, row, raw_instructions(seed, row)) for row in rows)
        ),
        "items_human_ins.json": _bracketed("{", "}", (_pair(seed, row, wishes) for row, wishes in asked if wishes)),
    }
    return [_write(out / name, lines) for name, lines in files.items()]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pair(seed: int, row: int, value: object) -> str:
    return f'"{plan_of(seed, row).asin}": {_json(value)}'


def _bracketed(start: str, end: str, entries: Iterable[str]) -> Iterator[str]:
    """Yield a JSON list or object, one entry a line."""
    yield start
    separator = "\n"
    for entry in entries:
        yield f"{separator}{entry}"
        separator = ",\n"
    yield f"\n{end}\n"


def _write(path: Path, parts: Iterable[str]) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(parts)
    except OSError as error:
        raise DataError(f"Cannot write {path} ({error.strerror}); choose another folder.") from error
    return path
