"""The catalogue of a shop: products, search and nouns. It never changes, and a process has one of each kind."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from agentgym_rft.envs.text_search.index import Search, SearchIndex
from agentgym_rft.envs.webshop.files import data_folder, entries, find_files, fingerprint
from agentgym_rft.envs.webshop.goal_list import RowTable, TableBuilder
from agentgym_rft.envs.webshop.goals import Wishes, WishStore
from agentgym_rft.envs.webshop.kept import kept_folder, load_table, save_table
from agentgym_rft.envs.webshop.nouns import NounTagger, SpacyNouns, lexicon_nouns
from agentgym_rft.envs.webshop.products import Product, search_document
from agentgym_rft.envs.webshop.records import RecordStore, write_records
from agentgym_rft.envs.webshop.synth import CATALOG_VERSION, SyntheticStore
from agentgym_rft.errors import ConfigError, EnvError, did_you_mean

BACKENDS = ("bm25", "tantivy")
LEXICON = "lexicon"
DEFAULT_SIZE = 1000  # synthetic products
MAX_HITS = 50
_KEPT_FROM = 10_000  # synthetic products; the table and index of fewer are made anew in each process
_PLACES_KEPT = 65536  # rows of asins that a catalogue remembers
_OPENING = Lock()


@dataclass(frozen=True, slots=True)
class CatalogOptions:
    """The options of a catalogue; equal options give the same object. `num_products` None: all, or `DEFAULT_SIZE`."""

    data: str | None = None
    num_products: int | None = None
    seed: int = 0
    search: str = "bm25"
    nouns: str = LEXICON
    cache_dir: str | None = None


class Catalog:
    """Products with search and nouns. Threads may share it.

    Args:
        name: says which products these are; part of task ids.
        key: the options that `open_catalog` made it from, by which it is copied and pickled; None: it cannot be.
    """

    def __init__(
        self,
        name: str,
        store: WishStore,
        table: RowTable,
        index: Search,
        tagger: NounTagger,
        key: CatalogOptions | None = None,
    ) -> None:
        self.name = name
        self.store = store
        self.table = table
        self.nouns = tagger.nouns
        self._index = index
        self._key = key
        self._matching = lru_cache(maxsize=64)(self._scan)
        self._row_of = lru_cache(maxsize=_PLACES_KEPT)(store.row_of)

    def __reduce__(self) -> tuple[object, ...]:
        if self._key is None:
            raise EnvError("A catalogue that was built by hand cannot be copied or pickled; use open_catalog.")
        return open_catalog, (self._key,)

    def product(self, asin: str) -> Product:
        """Return the product of an asin. Raises KeyError if there is none."""
        return self.store[self._row_of(asin)]

    def find(self, words: Sequence[str], *, with_special: bool = False) -> tuple[int, ...]:
        """Return rows that answer a search, best first, at most `MAX_HITS`.

        `with_special` opens the original's back doors: `<r>` for random products, and `<a> attribute`, `<c> category`
        and `<q> query` for all products that have it, which may be more.
        """
        if with_special and words and words[0] in ("<r>", "<a>", "<c>", "<q>"):
            return self._special(words[0], list(words[1:]))
        return self._index.top(" ".join(words), MAX_HITS)

    def _special(self, door: str, words: list[str]) -> tuple[int, ...]:
        if door == "<r>":  # the original draws anew for each page; here a page can be come back to
            chooser = random.Random(" ".join(words))
            return tuple(chooser.sample(range(len(self.store)), min(MAX_HITS, len(self.store))))
        return self._matching(door, "".join(words[:1]) if door == "<c>" else " ".join(words).strip())

    def _scan(self, door: str, value: str) -> tuple[int, ...]:
        found = []
        for row in range(len(self.store)):
            product = self.store[row]
            has = {"<a>": product.attributes, "<c>": (product.category,), "<q>": (product.query,)}[door]
            if value in has:
                found.append(row)
        return tuple(found)


def open_catalog(options: CatalogOptions) -> Catalog:
    """Return the catalogue of these options, the same object each time; that of real files follows their content.

    Raises:
        DataError: the files are missing, damaged or do not fit together.
        ConfigError: there is no such search or tagger, or its extra is not installed.
    """
    if options.search not in BACKENDS:
        raise ConfigError(f"WebShop has no search '{options.search}'.{did_you_mean(options.search, BACKENDS)}")
    if options.num_products is not None and options.num_products < 1:
        raise ConfigError(f"num_products is {options.num_products}; expected at least 1.")
    folder = data_folder(options.data)
    content = fingerprint(find_files(folder, options.num_products)) if folder is not None else ""
    with _OPENING:  # threads that ask at once wait for one
        return _open(options, folder, content)


def build_catalog(name: str, store: WishStore, tagger: NounTagger | None = None) -> Catalog:
    """Return a catalogue of products that are at hand, with nothing on disk."""
    table, index = _built(_rows(store), "bm25", None)
    return Catalog(name, store, table, index, tagger or lexicon_nouns())


@lru_cache(maxsize=4)
def _open(options: CatalogOptions, folder: Path | None, content: str) -> Catalog:
    tagger: NounTagger = lexicon_nouns() if options.nouns == LEXICON else SpacyNouns(options.nouns)
    if folder is not None:
        return _open_files(options, folder, content, tagger)
    store = SyntheticStore(options.num_products or DEFAULT_SIZE, options.seed)
    name = f"synthetic-v{CATALOG_VERSION}-s{options.seed}-n{len(store)}"
    if len(store) < _KEPT_FROM:
        table, index = _built(_rows(store), options.search, None)
        return Catalog(name, store, table, index, tagger, options)

    def make(target: Path) -> None:
        save_table(target, _built(_rows(store), options.search, target)[0])

    kept = kept_folder(options.cache_dir, f"{name}-{options.search}", make, _load)
    table, index = _load(kept)
    return Catalog(name, store, table, index, tagger, options)


def _open_files(options: CatalogOptions, folder: Path, content: str, tagger: NounTagger) -> Catalog:
    files = find_files(folder, options.num_products)
    part = f"-n{options.num_products}" if options.num_products is not None else ""

    def make(target: Path) -> None:
        rows = write_records(target, entries(files, options.num_products))
        save_table(target, _built(rows, options.search, target)[0])

    def check(target: Path) -> None:
        _load(target)
        RecordStore(target)

    kept = kept_folder(options.cache_dir, f"data-{content[:32]}{part}-{options.search}", make, check)
    table, index = _load(kept)
    return Catalog(f"data-{content[:12]}{part}", RecordStore(kept), table, index, tagger, options)


def _built(rows: Iterable[tuple[Product, Wishes]], search: str, folder: Path | None) -> tuple[RowTable, Search]:
    """Yield table and index of products in one pass, the index written into the folder where one is given."""
    builder = TableBuilder()
    asins: list[str] = []  # grows while the documents are read, and is asked for after them

    def documents() -> Iterator[str]:
        for product, wishes in rows:
            builder.add(product, wishes)
            asins.append(product.asin)
            yield search_document(product)

    index: Search
    if search == "tantivy":
        from agentgym_rft.envs.text_search.tantivy_index import TantivyIndex

        index = TantivyIndex.build(documents(), asins, folder and folder / search)
    else:
        index = SearchIndex.build(documents(), asins)
        if folder is not None:
            index.save(folder / search)
    return builder.table(), index


def _load(folder: Path) -> tuple[RowTable, Search]:
    """Return table and index that lie in a folder. Raises `DataError` if they are damaged or of another version."""
    table = load_table(folder)
    if (folder / "tantivy").is_dir():
        from agentgym_rft.envs.text_search.tantivy_index import TantivyIndex

        return table, TantivyIndex.open(folder / "tantivy")
    return table, SearchIndex.open(folder / "bm25")


def _rows(store: WishStore) -> Iterator[tuple[Product, Wishes]]:
    return ((store[row], store.wishes(row)) for row in range(len(store)))
