"""The cache on disk: data that is slow to make is made once for each content and format, and opened from then on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agentgym_rft.envs.text_search.index_files import load_array
from agentgym_rft.envs.webshop.goal_list import RowTable
from agentgym_rft.errors import DataError

FORMAT = 1  # rises when a folder of an older version could not be read, or would be read wrongly
_TABLE = "table.npy"


def cache_root(cache_dir: str | None) -> Path:
    """Return `cache_dir`, else `agentgym_rft/webshop` in the user's cache folder (XDG_CACHE_HOME)."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "agentgym_rft" / "webshop"


def kept_folder(
    cache_dir: str | None, name: str, make: Callable[[Path], None], check: Callable[[Path], object]
) -> Path:
    """Return the folder of a name, made if it is not there.

    A folder that `check` refuses with a `DataError` (damaged, or of another version) is deleted and made again. Two
    processes may make it at once; one of them comes first, and both use its folder.

    Args:
        name: names the content and how it is prepared; the format version is added.
        make: fills an empty folder.
        check: raises `DataError` for a folder that cannot be used.
    Raises:
        DataError: the cache cannot be written, or what `make` raises.
    """
    root = cache_root(cache_dir)
    folder = root / f"{name}-f{FORMAT}"
    if folder.is_dir():
        try:
            check(folder)
            return folder
        except DataError:
            shutil.rmtree(folder, ignore_errors=True)
    try:
        root.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".making-", dir=root))
    except OSError as error:
        raise DataError(f"The cache folder '{root}' cannot be written ({error}); give another as cache_dir.") from error
    try:
        make(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            check(folder)  # another process was faster
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def save_table(folder: Path, table: RowTable) -> None:
    """Write a table into a folder."""
    columns = (table.num_variants, table.num_distinct, table.num_humans, table.asin_hash, table.query_hash)
    np.save(folder / _TABLE, np.stack([column.view(np.uint64) for column in columns]))


def load_table(folder: Path) -> RowTable:
    """Return the table in a folder, mapped into memory. Raises `DataError` if it is damaged."""
    columns = load_array(folder / _TABLE)
    try:
        counts, hashes = columns[:3].view(np.int64), columns[3:]
        return RowTable(*counts, *hashes)
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(f"'{folder / _TABLE}' is missing or damaged; delete the folder, it is made again.") from error
