"""The search index: scores by hand, ties and files."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest

from agentgym_rft.envs.text_search.index import SearchIndex, quantised_length
from agentgym_rft.envs.text_search.tantivy_index import TantivyIndex
from agentgym_rft.errors import DataError

DOCUMENTS = ("red sofa", "red red chair", "blue lamp and the shade", "", "the of and")
IDS = ("B4", "B3", "B2", "B1", "B0")


def small() -> SearchIndex:
    return SearchIndex.build(DOCUMENTS, IDS)


def many(number: int, seed: int = 0) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    words = [f"w{number}" for number in range(200)]
    documents = [" ".join(rng.choices(words, k=rng.randrange(0, 60))) for _ in range(number)]
    return documents, [f"{rng.randrange(10**9):09}" for _ in range(number)]


def bm25_by_hand(documents: list[list[str]], query: list[str]) -> list[float]:
    """The textbook formula in 64 bits, document lengths as they are."""
    filled = [document for document in documents if document]
    average = sum(map(len, filled)) / len(filled)
    scores = []
    for document in documents:
        score = 0.0
        for term in query:
            frequency = sum(term in other for other in documents)
            idf = math.log(1 + (len(filled) - frequency + 0.5) / (frequency + 0.5)) if frequency else 0.0
            norm = 0.9 * (1 - 0.4 + 0.4 * len(document) / average)
            score += idf * document.count(term) / (document.count(term) + norm)
        scores.append(score)
    return scores


def test_scores_are_those_of_the_formula() -> None:
    terms = [["red", "sofa"], ["red", "red", "chair"], ["blue", "lamp", "shade"], [], []]
    for query in (["red"], ["red", "lamp"], ["red", "red", "red", "chair"], ["nothing"]):
        expected = bm25_by_hand(terms, query)
        assert small().scores(" ".join(query)) == pytest.approx(expected, rel=1e-6)


def test_the_best_document_comes_first_and_others_are_left_out() -> None:
    assert small().top("red chair") == (1, 0)
    assert small().top("Lamps!") == (2,)
    assert small().top("red chair", 1) == (1,)
    assert small().top("red", 0) == ()


@pytest.mark.parametrize("query", ["", "   ", "the and of", "THE", "?!", "unheardof", "\x00", "'s"])
def test_a_query_without_known_terms_finds_nothing(query: str) -> None:
    assert small().top(query) == ()
    assert not small().scores(query).any()


def test_ties_go_by_ascending_id() -> None:
    index = SearchIndex.build(["same words"] * 200, [f"{(7 * row) % 200:03}" for row in range(200)])
    assert [(7 * row) % 200 for row in index.top("words", 60)] == list(range(60))


@pytest.mark.parametrize("number", [0, 1, 63, 64, 65, 5000])
def test_top_is_the_sorted_scores_for_any_size(number: int) -> None:
    documents, ids = many(number)
    index = SearchIndex.build(documents, ids)
    for query in ("w1", "w1 w2 w3", "w5 w5 w9 w100 w150", "w7 unheardof"):
        scores = index.scores(query)
        rows = sorted((row for row in range(number) if scores[row] > 0), key=lambda row: (-scores[row], ids[row]))
        for k in (1, 10, 50, 10_000):
            assert index.top(query, k) == tuple(rows[:k])


def test_a_repeated_word_weighs_more_and_the_order_of_words_does_not_matter() -> None:
    once, twice = small().scores("red"), small().scores("red red")
    assert (twice[:2] == 2 * once[:2]).all()
    documents, ids = many(300)
    index = SearchIndex.build(documents, ids)
    assert (index.scores("w1 w2 w3 w2") == index.scores("w3 w2 w2 w1")).all()


def test_lengths_are_quantised_as_in_one_byte_of_lucene() -> None:
    assert [quantised_length(length) for length in range(40)] == list(range(40))
    assert [quantised_length(length) for length in (40, 41, 42, 55, 56, 59, 60, 100, 1000)] == [
        40, 40, 42, 54, 56, 56, 60, 96, 984,
    ]  # fmt: skip
    codes = {quantised_length(length) for length in range(1_000_000)}
    assert len(codes) < 256


def test_documents_and_ids_must_be_as_many() -> None:
    with pytest.raises(DataError, match="2 documents and 1 ids"):
        SearchIndex.build(["a", "b"], ["x"])


@pytest.mark.parametrize("number", [0, 1, 300])
def test_an_opened_index_ranks_as_the_saved_one(tmp_path: Path, number: int) -> None:
    documents, ids = many(number)
    built = SearchIndex.build(documents, ids)
    built.save(tmp_path / "index")
    opened = SearchIndex.open(tmp_path / "index")
    assert len(opened) == number
    for query in ("w1", "w1 w2 w3 w4", "w199 w0 w0", "é unheardof"):
        assert opened.top(query) == built.top(query)
        assert (opened.scores(query) == built.scores(query)).all()


def test_an_opened_index_is_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    small().save(tmp_path)
    rows = SearchIndex.open(tmp_path)._postings.rows
    assert isinstance(rows.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 1


def test_a_saved_index_is_replaced_whole(tmp_path: Path) -> None:
    small().save(tmp_path)
    old = SearchIndex.open(tmp_path)
    SearchIndex.build(["lamp"], ["B9"]).save(tmp_path)
    assert SearchIndex.open(tmp_path).top("lamp") == (0,)
    assert old.top("lamp") == (2,)


def test_two_builds_write_the_same_bytes(tmp_path: Path) -> None:
    documents, ids = many(200)
    for name in ("a", "b"):
        SearchIndex.build(iter(documents), ids).save(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_another_format_is_refused(tmp_path: Path) -> None:
    small().save(tmp_path)
    header = json.loads((tmp_path / "header.json").read_text())
    (tmp_path / "header.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(DataError, match="has format 99; this version reads 1"):
        SearchIndex.open(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    small().save(tmp_path)
    path = tmp_path / "rows.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"rows\.npy of the search index has \d+ bytes instead of"):
        SearchIndex.open(tmp_path)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    small().save(tmp_path)
    path = tmp_path / "damping.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="SHA-256"):
        SearchIndex.open(tmp_path)


@pytest.mark.parametrize("name", ["rows.npy", "header.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    small().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=re.escape(name)):
        SearchIndex.open(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        *("", "[]", "{}", '{"format": 1}', '{"format": 1, "files": 3}', '{"format": 1, "files": {}}', "[" * 5000),
        '{"format": 1, "files": {"rows": {"bytes": "3", "sha256": ""}}}',
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: str) -> None:
    small().save(tmp_path)
    (tmp_path / "header.json").write_text(header)
    with pytest.raises(DataError, match="is no header of a search index"):
        SearchIndex.open(tmp_path)


def test_a_query_of_a_megabyte_is_answered() -> None:
    documents, ids = many(300)
    index = SearchIndex.build(documents, ids)
    query = " ".join(f"w{number}" for number in range(200_000))
    assert len(query) > 1_000_000
    assert len(index.top(query)) == 50


def test_searching_all_of_unicode_does_not_fail() -> None:
    assert small().top("".join(map(chr, range(0x110000)))) == ()


def test_only_the_first_1024_terms_of_a_query_count() -> None:
    assert small().top("the " + "x " * 1023 + "lamp") == (2,)
    assert small().top("the " + "x " * 1024 + "lamp") == ()


def test_tantivy_finds_the_same_documents_in_its_own_order(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    documents, ids = many(300)
    own, other = SearchIndex.build(documents, ids), TantivyIndex.build(documents, ids, tmp_path / "index")
    assert len(other) == 300
    for query in ("w1", "w1 w2", "w3 w3 w4"):
        assert sorted(other.top(query, 300)) == sorted(own.top(query, 300))
        assert TantivyIndex.open(tmp_path / "index").top(query) == other.top(query)
    assert len(other.top("w1", 3)) == 3


@pytest.mark.parametrize("query", ["", "the and", 'a:b AND (" OR -', "\\", "\x00", "unheardof"])
def test_tantivy_reads_no_operators_in_a_query(query: str) -> None:
    pytest.importorskip("tantivy")
    assert TantivyIndex.build(DOCUMENTS, IDS).top(query) == ()


def test_tantivy_refuses_what_is_no_index(tmp_path: Path) -> None:
    pytest.importorskip("tantivy")
    with pytest.raises(DataError, match="no readable tantivy index"):
        TantivyIndex.open(tmp_path)
    with pytest.raises(DataError, match="1 documents and 2 ids"):
        TantivyIndex.build(["a"], ["x", "y"])
