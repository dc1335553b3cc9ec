import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agentgym_rft.envs.text_search.index_files import load_array
from agentgym_rft.envs.webshop import files
from agentgym_rft.envs.webshop.catalog import CatalogOptions, open_catalog
from agentgym_rft.envs.webshop.files import entries, find_files, stream_array
from agentgym_rft.envs.webshop.records import RecordStore
from agentgym_rft.errors import DataError
from tests.envs.webshop.shops import INSTRUCTIONS, RED_MUG, SHOE, raw, store, write_files


def _options(folder: Path, tmp_path: Path, num_products: int | None = None) -> CatalogOptions:
    return CatalogOptions(str(folder), num_products, cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return write_files(tmp_path / "data")


def test_files_give_the_same_products_and_wishes_as_their_entries(folder: Path, tmp_path: Path) -> None:
    opened, expected = open_catalog(_options(folder, tmp_path)).store, store()
    assert len(opened) == 3
    for row in range(3):
        assert opened[row] == expected[row]
        assert opened.wishes(row) == expected.wishes(row)
        assert opened.row_of(expected[row].asin) == row
    for unknown in ("B000000000", "B999999999", "", "ß"):
        with pytest.raises(KeyError):
            opened.row_of(unknown)
    with pytest.raises(IndexError):
        opened[3]


def test_duplicates_and_entries_without_a_proper_asin_are_left_out(tmp_path: Path) -> None:
    items = [RED_MUG, raw("nan", "x"), raw("B0000000001X", "x"), {**RED_MUG, "name": "second"}, SHOE]
    write_files(tmp_path, items)
    assert [product.title for product, _ in entries(find_files(tmp_path, None))] == [
        "Harbor Coffee Mug",
        "Running Shoe",
    ]


def test_a_product_that_the_attributes_file_does_not_know_has_a_dummy(tmp_path: Path) -> None:
    write_files(tmp_path, [RED_MUG, SHOE, raw("B000000007", "A Mug")])
    assert list(entries(find_files(tmp_path, None)))[2][0].attributes == ("DUMMY_ATTR",)


def test_only_the_first_products_on_request(folder: Path, tmp_path: Path) -> None:
    part = open_catalog(_options(folder, tmp_path, 2))
    assert len(part.store) == 2
    assert part.name != open_catalog(_options(folder, tmp_path)).name


def test_equal_options_give_the_same_catalogue_and_changed_files_another(folder: Path, tmp_path: Path) -> None:
    first = open_catalog(_options(folder, tmp_path))
    assert open_catalog(_options(folder, tmp_path)) is first
    write_files(folder, [{**RED_MUG, "name": "Another Name"}, SHOE])
    second = open_catalog(_options(folder, tmp_path))
    assert second.product("B000000001").title == "Another Name"
    assert second.name != first.name


@pytest.mark.parametrize("name", ["items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(folder: Path, tmp_path: Path, name: str, keep: float) -> None:
    text = (folder / name).read_bytes()
    (folder / name).write_bytes(text[: int(len(text) * keep)])
    with pytest.raises(DataError, match=f"{name} is truncated or damaged"):
        open_catalog(_options(folder, tmp_path))


def test_a_missing_file_or_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        open_catalog(_options(tmp_path / "nowhere", tmp_path))
    (folder / "items_ins_v2_1000.json").unlink()
    with pytest.raises(DataError, match=r"has items_shuffle_1000\.json but not items_ins_v2_1000\.json"):
        open_catalog(_options(folder, tmp_path))
    (folder / "items_shuffle_1000.json").unlink()
    with pytest.raises(DataError, match=r"neither items_shuffle_1000\.json nor items_shuffle\.json"):
        open_catalog(_options(folder, tmp_path))


def test_a_goal_without_its_product_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, [RED_MUG])
    with pytest.raises(
        DataError, match=r"has a goal for product 'B000000003', which items_shuffle_1000\.json does not"
    ):
        open_catalog(_options(tmp_path, tmp_path))


def test_wishes_of_people_for_products_outside_the_small_set_are_ignored_but_not_of_a_subset(tmp_path: Path) -> None:
    write_files(tmp_path, [RED_MUG, SHOE])
    assert len(list(entries(find_files(tmp_path, None)))) == 2
    (tmp_path / "items_human_ins.json").rename(tmp_path / "items_human_ins.subset13.json")
    with pytest.raises(DataError, match="goal for product 'B000000002'"):
        list(entries(find_files(tmp_path, None)))


@pytest.mark.parametrize(
    "content", ["{}", "[1]", "[[]]", '[{"asin": "B000000001"}]', "[,]", "[" * 5000, f"[{'9' * 5000}]"]
)
def test_a_file_of_something_else_is_refused(folder: Path, tmp_path: Path, content: str) -> None:
    (folder / "items_shuffle_1000.json").write_text(content)
    with pytest.raises(DataError):
        open_catalog(_options(folder, tmp_path))


def test_the_full_set_is_taken_unless_no_more_than_the_small_one_is_asked_for(folder: Path) -> None:
    (folder / "items_shuffle.json").write_text(json.dumps([RED_MUG, SHOE]))
    (folder / "items_ins_v2.json").write_text(json.dumps(INSTRUCTIONS))
    assert not find_files(folder, None).is_small
    assert find_files(folder, 1000).is_small


def test_a_long_list_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"text": "ä" * (n % 7), "list": [n, {"n": None}]} for n in range(200)]
    (tmp_path / "list.json").write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
    for size in (1, 7, 64):
        monkeypatch.setattr(files, "_CHUNK", size)
        assert list(stream_array(tmp_path / "list.json")) == values


def _kept(tmp_path: Path) -> Path:
    (kept,) = (tmp_path / "cache").iterdir()
    return kept


def test_the_cache_is_used_again_and_a_damaged_or_foreign_one_is_made_again(folder: Path, tmp_path: Path) -> None:
    from agentgym_rft.envs.webshop.catalog import _open

    first = open_catalog(_options(folder, tmp_path))
    kept = _kept(tmp_path)
    stamp = (kept / "products.jsonl").stat().st_mtime_ns
    _open.cache_clear()
    assert open_catalog(_options(folder, tmp_path)) is not first
    assert (kept / "products.jsonl").stat().st_mtime_ns == stamp
    header = kept / "bm25" / "header.json"
    for damage in (
        lambda: header.write_text(header.read_text().replace('"format": 1', '"format": 99')),
        lambda: (kept / "products.jsonl").write_bytes(b""),
        lambda: np.save(kept / "table.npy", np.zeros(3)),
        lambda: (kept / "offsets.npy").unlink(),
    ):
        damage()
        _open.cache_clear()
        again = open_catalog(_options(folder, tmp_path))
        assert [again.store[row] for row in again.find(["mug"])] == [first.store[row] for row in first.find(["mug"])]
        assert _kept(tmp_path) == kept


def test_a_cache_that_cannot_be_written_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        open_catalog(_options(folder, tmp_path))


def test_a_damaged_store_is_refused(folder: Path, tmp_path: Path) -> None:
    open_catalog(_options(folder, tmp_path))
    (_kept(tmp_path) / "products.jsonl").write_bytes(b"{}\n")
    with pytest.raises(DataError, match="truncated"):
        RecordStore(_kept(tmp_path))


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 2), np.int64), np.zeros(0, np.int64)])
def test_offsets_of_another_kind_are_refused(folder: Path, tmp_path: Path, values: NDArray[Any]) -> None:
    open_catalog(_options(folder, tmp_path))
    np.save(_kept(tmp_path) / "offsets.npy", values)
    with pytest.raises(DataError, match=r"The products in .* are damaged"):
        RecordStore(_kept(tmp_path))


@pytest.mark.parametrize("header", [b"", b"\x93NUMPY\x01\x00\x06\x00{'a':[", b"\x93NUMPY\x01\x00\x04\x00{}  "])
def test_an_array_that_cannot_be_read_is_refused_whatever_numpy_raises(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(header)
    with pytest.raises(DataError, match=r"a\.npy' is missing or damaged"):
        load_array(tmp_path / "a.npy")


@pytest.mark.parametrize("line", ["{}", "[" * 40, '{"product":3,"template":null,"humans":[]}'])
def test_a_damaged_line_of_a_store_is_refused_when_it_is_read(folder: Path, tmp_path: Path, line: str) -> None:
    open_catalog(_options(folder, tmp_path))
    path = _kept(tmp_path) / "products.jsonl"
    path.write_bytes(line.encode().ljust(path.stat().st_size))
    with pytest.raises(DataError, match=r"Product 0 in .* is damaged"):
        RecordStore(_kept(tmp_path))[0]
