"""Full-text search that ranks as Lucene's BM25 does, with NumPy.

`SearchIndex.build` analyses the documents, `save` writes arrays that `SearchIndex.open` maps into memory, so that all
processes of a host share one copy. The float operations are Lucene's, in 32 bits where it uses 32 bits, so scores are
equal to the last bit and ties fall as there.

Source: Lucene 9 (BM25Similarity, SmallFloat), Anserini's k1 = 0.9 and b = 0.4, ties by ascending id.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym_rft.envs.text_search import index_files
from agentgym_rft.envs.text_search.analyzer import analyze
from agentgym_rft.errors import DataError

K1 = np.float32(0.9)
B = np.float32(0.4)
RANKINGS_KEPT = 4096
TERMS_KEPT = 65536  # places of terms in the vocabulary
LONGEST_QUERY = 1024  # terms; the rest is ignored (Lucene refuses queries with more)
LONGEST_TEXT = 1 << 16  # characters of a query; the rest is ignored
LONGEST_KEPT = 64  # distinct terms; rankings of longer queries are not kept
_BLOCKS = 64  # groups of rows whose best scores bound the k-th best
_CHUNK = 1 << 20  # postings that are sorted at once

Place = tuple[int, int, float]  # a term's postings from start to stop, and its idf
Query = tuple[tuple[Place, int], ...]  # (place of a term, how often it occurs), ascending


class Search(Protocol):
    """The interface of a search backend."""

    def top(self, query: str, k: int = 50) -> tuple[int, ...]:
        """Return at most k rows, best first."""
        ...


@dataclass(frozen=True, slots=True)
class Postings:
    """The arrays of an index of D documents, V terms and P pairs of a term and a document that holds it.

    The terms are sorted by their UTF-8 bytes. `damping` is 1 + tf / norm of the BM25 formula: with the weight w of a
    term, a document scores w - w / damping.
    """

    words: NDArray[np.uint8]  # the terms, one after the other, UTF-8
    word_starts: NDArray[np.int64]  # [V + 1]
    starts: NDArray[np.int64]  # [V + 1], places in the next two
    rows: NDArray[np.int32]  # [P]
    damping: NDArray[np.float32]  # [P]
    id_ranks: NDArray[np.int32]  # [D], for ties
    num_filled: NDArray[np.int64]  # [1], documents with at least one term

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, as `Postings` takes them back."""
        return {
            "words": self.words,
            "word_starts": self.word_starts,
            "starts": self.starts,
            "rows": self.rows,
            "damping": self.damping,
            "id_ranks": self.id_ranks,
            "num_filled": self.num_filled,
        }


def query_terms(query: str) -> list[str]:
    """Return the terms of a query that are searched for, repeats kept."""
    return analyze(query[:LONGEST_TEXT])[:LONGEST_QUERY]


class SearchIndex:
    """An index over documents that never changes; use `build` or `open`. Threads may share it."""

    def __init__(self, postings: Postings) -> None:
        self._postings = postings
        self._num_filled = int(postings.num_filled[0])
        blocks = -(-len(postings.id_ranks) // _BLOCKS)
        self._padded = max(blocks, 1) * _BLOCKS
        self._place = lru_cache(maxsize=TERMS_KEPT)(self._find)
        self._kept_ranking = lru_cache(maxsize=RANKINGS_KEPT)(self._ranking)

    def __len__(self) -> int:
        return len(self._postings.id_ranks)

    @classmethod
    def build(cls, documents: Iterable[str], ids: Sequence[str]) -> SearchIndex:
        """Return an index of the documents; row i has the id `ids[i]`, and ids decide ties.

        Raises DataError where there are more or fewer documents than ids.
        """
        lists = _TermLists()
        for document in documents:
            lists.add(document)
        if lists.num_documents != len(ids):
            raise DataError(f"There are {lists.num_documents} documents and {len(ids)} ids; give one id per document.")
        return cls(_postings(lists, ids))

    @classmethod
    def open(cls, folder: str | Path) -> SearchIndex:
        """Return a saved index, mapped into memory. Raises DataError for another version or damaged files."""
        return cls(Postings(**index_files.load(Path(folder), Postings.__slots__)))

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, which is made; an index in it is replaced."""
        index_files.save(Path(folder), self._postings.arrays())

    def top(self, query: str, k: int = 50) -> tuple[int, ...]:
        """Return at most k rows with a term of the query, best first; ties by ascending id.
        Stop words alone find nothing.
        """
        terms = self._terms(query)
        if len(terms) > LONGEST_KEPT:
            return self._ranking(terms, k)
        return self._kept_ranking(terms, k)

    def scores(self, query: str) -> NDArray[np.float32]:
        """Return the score of every document, [D]."""
        terms = self._terms(query)
        return self._scores(terms)[: len(self)] if terms else np.zeros(len(self), dtype=np.float32)

    def _terms(self, query: str) -> Query:
        counts = Counter(query_terms(query))
        places = ((self._place(term), count) for term, count in counts.items())
        return tuple(sorted((place, count) for place, count in places if place is not None))

    def _find(self, term: str) -> Place | None:
        """Return the place of a term, None for one that no document has: bisection over the sorted terms."""
        words, word_starts = self._postings.words, self._postings.word_starts
        wanted = term.encode("utf-8", "surrogatepass")
        low, high = 0, len(word_starts) - 1
        while low < high:
            middle = (low + high) // 2
            if words[word_starts[middle] : word_starts[middle + 1]].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(word_starts) - 1 or words[word_starts[low] : word_starts[low + 1]].tobytes() != wanted:
            return None
        start, stop = int(self._postings.starts[low]), int(self._postings.starts[low + 1])
        odds = (self._num_filled - (stop - start) + 0.5) / (stop - start + 0.5)
        return start, stop, float(np.float32(math.log(1.0 + odds)))

    def _scores(self, query: Query) -> NDArray[np.float32]:
        """Return [D padded to whole blocks]; terms are added in 64 bits, as in Lucene, and the sum is cut to 32."""
        rows = [self._postings.rows[start:stop] for (start, stop, _), _ in query]
        damping = [self._postings.damping[start:stop] for (start, stop, _), _ in query]
        weights = np.array([count * idf for (_, _, idf), count in query], dtype=np.float32)
        weight = np.repeat(weights, [len(part) for part in rows])
        return np.bincount(
            np.concatenate(rows), weight - weight / np.concatenate(damping), minlength=self._padded
        ).astype(np.float32)

    def _ranking(self, query: Query, k: int) -> tuple[int, ...]:
        if not query or k < 1:
            return ()
        scores = self._scores(query)
        # The k-th best of the blocks' best scores is a lower bound of the k-th best score, and cheap to get.
        best = scores.reshape(_BLOCKS, -1).max(axis=0)
        floor = np.partition(best, -k)[-k] if len(best) > k else np.float32(0)
        hits = np.flatnonzero(scores >= floor) if floor > 0 else np.flatnonzero(scores)
        values = scores[hits]
        if len(hits) > k:
            is_in = values >= np.partition(values, -k)[-k]
            hits, values = hits[is_in], values[is_in]
        order = np.lexsort((self._postings.id_ranks[hits], -values))[:k]
        return tuple(hits[order].tolist())


class _TermLists:
    """The terms of documents in the order they come, as flat arrays."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}  # term -> its number, in order of appearance
        self.terms = array("i")  # of all documents, one after the other, distinct within a document
        self.counts = array("i")  # how often that term is in that document
        self.num_distinct = array("i")  # terms of a document
        self.lengths = array("i")  # words of a document that are terms

    @property
    def num_documents(self) -> int:
        return len(self.lengths)

    def add(self, document: str) -> None:
        counts = Counter(analyze(document))
        numbers = self.numbers
        self.terms.extend([numbers.setdefault(term, len(numbers)) for term in counts])
        self.counts.extend(counts.values())
        self.num_distinct.append(len(counts))
        self.lengths.append(counts.total())


def quantised_length(length: int) -> int:
    """Return the document length that survives Lucene's one-byte encoding (SmallFloat.intToByte4 and back).

    Lengths below 24 are exact; from there on, four significant bits of `length - 24` are kept.
    """
    exact = 24
    if length < exact:
        return length
    rest = length - exact
    shift = max(rest.bit_length() - 4, 0)
    return exact + (rest >> shift << shift)


def _inverse_norms(lengths: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return 1 / (k1 * (1 - b + b * length / average)) for every document, [D], in Lucene's order of float
    operations.
    """
    num_filled = int(np.count_nonzero(lengths))
    average = np.float32(int(lengths.sum(dtype=np.int64)) / max(num_filled, 1)) or np.float32(1)
    distinct, places = np.unique(lengths, return_inverse=True)
    kept = np.array([quantised_length(int(length)) for length in distinct], dtype=np.float32)
    one = np.float32(1)
    norms = one / (K1 * ((one - B) + B * kept / average))
    return norms[places].astype(np.float32)


def _postings(lists: _TermLists, ids: Sequence[str]) -> Postings:
    words = [term.encode("utf-8", "surrogatepass") for term in lists.numbers]
    order = sorted(range(len(words)), key=words.__getitem__)
    numbers = np.empty(len(words), dtype=np.int64)
    numbers[order] = np.arange(len(words))
    lengths = np.frombuffer(lists.lengths, dtype=np.int32)
    starts, rows, damping = _by_term(lists, numbers, _inverse_norms(lengths))
    id_ranks = np.empty(len(ids), dtype=np.int32)
    id_ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids), dtype=np.int32)
    ordered = [words[place] for place in order]
    return Postings(
        words=np.frombuffer(b"".join(ordered), dtype=np.uint8),
        word_starts=np.cumsum([0, *map(len, ordered)], dtype=np.int64),
        starts=starts,
        rows=rows,
        damping=damping,
        id_ranks=id_ranks,
        num_filled=np.array([np.count_nonzero(lengths)], dtype=np.int64),
    )


def _by_term(
    lists: _TermLists, numbers: NDArray[np.int64], inverse_norms: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Start, rows and damping of `Postings`: the lists sorted by term, a chunk at a time to keep memory small."""
    terms, counts = np.frombuffer(lists.terms, dtype=np.int32), np.frombuffer(lists.counts, dtype=np.int32)
    all_rows = np.repeat(np.arange(lists.num_documents, dtype=np.int32), np.frombuffer(lists.num_distinct, np.int32))
    frequencies = np.zeros(len(numbers), dtype=np.int64)
    frequencies[numbers] = np.bincount(terms, minlength=len(numbers))
    starts = np.concatenate(([0], np.cumsum(frequencies)))
    rows, damping = np.empty(len(terms), dtype=np.int32), np.empty(len(terms), dtype=np.float32)
    free = starts[:-1].copy()  # where the next posting of a term goes
    for at in range(0, len(terms), _CHUNK):
        chunk = numbers[terms[at : at + _CHUNK]]
        order = np.argsort(chunk, kind="stable")
        ordered, part = chunk[order], all_rows[at : at + _CHUNK][order]
        found, firsts, sizes = np.unique(ordered, return_index=True, return_counts=True)
        places = np.repeat(free[found] - firsts, sizes) + np.arange(len(ordered))
        free[found] += sizes
        rows[places] = part
        damping[places] = np.float32(1) + counts[at : at + _CHUNK][order].astype(np.float32) * inverse_norms[part]
    return starts, rows, damping
