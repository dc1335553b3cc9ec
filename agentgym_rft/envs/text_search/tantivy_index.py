"""The search backend of the extra `tantivy`: made for large catalogues, with another ranking than the original's.

Both sides see the terms of `analyzer`, but tantivy's BM25 has fixed constants (k1 = 1.2, b = 0.75), so the order of the
hits differs for most queries; `benchmarks/webshop_search.py` measures by how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgym_rft.envs.text_search.analyzer import analyze
from agentgym_rft.envs.text_search.index import LONGEST_KEPT, RANKINGS_KEPT, query_terms
from agentgym_rft.errors import ConfigError, DataError

if TYPE_CHECKING:
    import tantivy

_WRITER_BYTES = 64 << 20


class TantivyIndex:
    """A tantivy index with the calls of `SearchIndex`. It lies in memory, or in the folder that `build` is given."""

    def __init__(self, index: tantivy.Index) -> None:
        self._library = _tantivy()
        self._index = index
        self._searcher = index.searcher()
        self._kept_ranking = lru_cache(maxsize=RANKINGS_KEPT)(self._ranking)

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    @classmethod
    def build(cls, documents: Iterable[str], ids: Sequence[str], folder: str | Path | None = None) -> TantivyIndex:
        """Return an index of the documents; row i has the id `ids[i]`.
        With a folder, which is made, the index lies there.

        Raises DataError where there are more or fewer documents than ids.
        """
        library = _tantivy()
        schema = library.SchemaBuilder()
        schema.add_text_field("terms", tokenizer_name="whitespace", stored=False)
        schema.add_integer_field("row", stored=True)
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
        index = library.Index(schema.build(), path=None if folder is None else str(folder), reuse=False)
        writer = index.writer(heap_size=_WRITER_BYTES, num_threads=1)
        num_documents = 0
        for document in documents:
            writer.add_document(library.Document(terms=" ".join(analyze(document)), row=num_documents))
            num_documents += 1
        if num_documents != len(ids):
            raise DataError(f"There are {num_documents} documents and {len(ids)} ids; give one id per document.")
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        return cls(index)

    @classmethod
    def open(cls, folder: str | Path) -> TantivyIndex:
        """Return an index that was built into a folder. Raises DataError where there is none or it cannot be read."""
        library = _tantivy()
        try:
            return cls(library.Index.open(str(folder)))
        except (ValueError, OSError) as error:
            raise DataError(f"There is no readable tantivy index in {folder} ({error}). Build it again.") from error

    def top(self, query: str, k: int = 50) -> tuple[int, ...]:
        """Return at most k rows with a term of the query, best first; the order of ties is tantivy's."""
        terms = tuple(sorted(query_terms(query)))
        return self._kept_ranking(terms, k) if len(terms) <= LONGEST_KEPT else self._ranking(terms, k)

    def _ranking(self, terms: tuple[str, ...], k: int) -> tuple[int, ...]:
        if not terms or k < 1:
            return ()
        query, should = self._library.Query, self._library.Occur.Should
        clauses = [(should, query.term_query(self._index.schema, "terms", term)) for term in terms]
        hits = self._searcher.search(query.boolean_query(clauses), k).hits
        return tuple(int(self._searcher.doc(address)["row"][0]) for _, address in hits)


def _tantivy() -> Any:
    try:
        import tantivy
    except ImportError as error:
        raise ConfigError("The search 'tantivy' needs the extra: pip install 'agentgym-rft[tantivy]'.") from error
    return tantivy
