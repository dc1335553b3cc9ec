"""The original files of WebShop: where they are, what they hold, and whether they fit together."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from agentgym_rft.envs.webshop.goals import Wishes, read_humans, read_template
from agentgym_rft.envs.webshop.products import NO_ATTRIBUTES, Product, clean_product, is_usable
from agentgym_rft.errors import DataError
from agentgym_rft.json_text import parse_json

VARIABLE = "WEBSHOP_DATA"
SMALL = 1000
_CHUNK = 1 << 20  # characters
_LONGEST_ENTRY = 16 << 20  # characters; the longest entry of the full file has less than one million
_HASHED_WHOLE = 64 << 20  # bytes
_NUM_SAMPLES = 64
_ONE_IN = 100  # of the goals of the full set may name a product that is not there: it was made by crawling
_GET_DATA = "Get the files as the WebShop repository says (setup.sh), or leave data empty for the synthetic shop."


@dataclass(frozen=True, slots=True)
class ShopFiles:
    """The three files of one set. `is_small`: the set of 1,000 products."""

    items: Path
    instructions: Path
    humans: Path | None
    is_small: bool

    def paths(self) -> list[Path]:
        return [path for path in (self.items, self.instructions, self.humans) if path is not None]


def data_folder(data: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of `data`, else of WEBSHOP_DATA, else None. Raises `DataError` if it is no folder."""
    given = data if data is not None else os.environ.get(VARIABLE)
    if not given:
        return None
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'. {_GET_DATA}")
    return folder


def find_files(folder: Path, num_products: int | None) -> ShopFiles:
    """Return the full set of a folder, or the small one where the full is missing or no more is asked for.

    Raises `DataError` if neither is complete.
    """
    small, full = folder / "items_shuffle_1000.json", folder / "items_shuffle.json"
    is_small = small.is_file() and (not full.is_file() or (num_products is not None and num_products <= SMALL))
    items = small if is_small else full
    if not items.is_file():
        raise DataError(f"'{folder}' has neither {small.name} nor {full.name}. {_GET_DATA}")
    names = ("items_ins_v2_1000.json", "items_ins_v2.json") if is_small else ("items_ins_v2.json",)
    instructions = next((folder / name for name in names if (folder / name).is_file()), None)
    if instructions is None:
        raise DataError(f"'{folder}' has {items.name} but not {names[0]}, which holds its attributes. {_GET_DATA}")
    human_names = ("items_human_ins.json", "items_human_ins.subset13.json")
    humans = next((folder / name for name in human_names if (folder / name).is_file()), None)
    return ShopFiles(items, instructions, humans, is_small)


def fingerprint(files: ShopFiles) -> str:
    """Tell contents apart: SHA-256 over the files, of those over 64 MiB over size, time and 64 samples; in hex."""
    digest = hashlib.sha256()
    for path in files.paths():
        stat = path.stat()
        digest.update(_file_digest(path, stat.st_size, stat.st_mtime_ns).encode())
    return digest.hexdigest()


def entries(files: ShopFiles, num_products: int | None = None) -> Iterator[tuple[Product, Wishes]]:
    """Yield every usable product in file order with the wishes for it, duplicates left out as in the original.

    Of the first `num_products` entries only, where it is given.

    Raises:
        DataError: a file is damaged, or a goal names a product that the items file does not have. People's wishes for
            products outside the small set are ignored, as the original ignores them.
    """
    instructions, humans = _read_mapping(files.instructions), _read_humans(files)
    seen: set[str] = set()
    for position, raw in enumerate(stream_array(files.items)):
        if not isinstance(raw, dict):
            raise DataError(f"{files.items.name} holds a {type(raw).__name__}; expected a list of products.")
        if not is_usable(raw) or raw["asin"] in seen:
            continue
        asin = raw["asin"]
        seen.add(asin)
        if num_products is not None and position >= num_products:
            continue  # read on all the same: whether the files fit together does not depend on the part that is used
        entry = _of_type(instructions.get(asin, {}), dict, files.instructions, asin)
        people = _of_type(humans.get(asin, []), list, files.humans or files.instructions, asin)
        attributes = entry.get("attributes", NO_ATTRIBUTES)
        wishes = Wishes(read_template(entry, asin), read_humans(people, asin))
        yield clean_product(raw, _of_type(attributes, list | tuple, files.instructions, asin)), wishes
    _check_goals(files, instructions, humans, seen)


def stream_array(path: Path) -> Iterator[Any]:
    """Yield the elements of a JSON list, one at a time. Raises `DataError` where the file is cut short or damaged."""
    decoder = json.JSONDecoder()
    damaged = DataError(f"{path} is truncated or damaged; expected one JSON list. {_GET_DATA}")
    with path.open(encoding="utf-8") as file:
        text, at = _more(file, "", 0, damaged)
        if not text.startswith("[", at):
            raise damaged
        at += 1
        while True:
            text, at = _skip_blanks(file, text, at, damaged)
            if text[at] == "]":
                return
            while True:
                try:
                    value, end = decoder.raw_decode(text, at)
                    break
                except json.JSONDecodeError as error:
                    if len(text) - at > _LONGEST_ENTRY:
                        raise damaged from error
                    text, at = _more(file, text, at, damaged)
                except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of levels
                    raise damaged from error
            yield value
            text, at = _skip_blanks(file, text, end, damaged)
            if text[at] not in ",]":
                raise damaged
            at += text[at] == ","


def _skip_blanks(file: Any, text: str, at: int, damaged: DataError) -> tuple[str, int]:
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at < len(text):
            return text, at
        text, at = _more(file, text, at, damaged)


def _more(file: Any, text: str, at: int, damaged: DataError) -> tuple[str, int]:
    """Return the unread rest of the text with more of the file behind it, and 0."""
    try:
        chunk = file.read(_CHUNK)
    except UnicodeDecodeError as error:
        raise damaged from error
    if not chunk:
        raise damaged
    return text[at:] + chunk, 0


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        document = parse_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is truncated or damaged; expected a JSON object by asin. {_GET_DATA}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} holds a {type(document).__name__}; expected a JSON object by asin.")
    return document


def _read_humans(files: ShopFiles) -> dict[str, Any]:
    return _read_mapping(files.humans) if files.humans is not None else {}


def _of_type(value: Any, kind: Any, path: Path, asin: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(f"The entry '{asin}' of {path.name} holds a {type(value).__name__} in the wrong place.")
    return value


def _check_goals(files: ShopFiles, instructions: Mapping[str, Any], humans: Mapping[str, Any], known: set[str]) -> None:
    """Raise `DataError` for a goal whose product is not there, unless the files are of sets of different size."""
    pairs = []
    if files.instructions.name.endswith("_1000.json") == files.is_small:
        pairs.append((files.instructions, [asin for asin, entry in instructions.items() if "instruction" in entry]))
    if files.humans is not None and (not files.is_small or "subset" in files.humans.name):
        pairs.append((files.humans, list(humans)))
    for path, wanted in pairs:
        missing = [asin for asin in wanted if asin not in known and is_usable({"asin": asin})]
        if len(missing) > (0 if files.is_small else len(wanted) // _ONE_IN):
            raise DataError(
                f"{path.name} has a goal for product '{missing[0]}', which {files.items.name} does not have; "
                "use files of one set."
            )


@lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, time_ns: int) -> str:
    """Return the digest of a file as it is now; computed once for each state of the file."""
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size} {time_ns}".encode())
        for sample in range(_NUM_SAMPLES):
            file.seek((size - _CHUNK) * sample // (_NUM_SAMPLES - 1))
            digest.update(file.read(_CHUNK))
        return digest.hexdigest()
