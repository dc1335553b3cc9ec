from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentgym_rft.store.files import file_name, lock, open_to_append, write_atomically

SIZE = 50_000


def test_many_writers_of_one_file_never_fail_and_never_mix(tmp_path):
    path = tmp_path / "result.json"
    write_atomically(path, b"0" * SIZE)

    def write(writer: int) -> None:
        for _ in range(20):
            write_atomically(path, str(writer).encode() * SIZE)
            content = path.read_bytes()
            assert len(content) == SIZE
            assert len(set(content)) == 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(1, 5)))
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "folder", b"content")
    assert list(tmp_path.rglob("*")) == [tmp_path / "folder"]


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path):
    target, path = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    path.symlink_to(target)
    write_atomically(path, b"new")
    assert (target.read_bytes(), path.read_bytes()) == (b"old", b"new")
    assert not path.is_symlink()


def test_the_file_may_be_read_by_whom_the_umask_allows(tmp_path: Path):
    plain, written = tmp_path / "plain", tmp_path / "written"
    plain.write_bytes(b"")
    write_atomically(written, b"")
    assert written.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("valid_seen", "valid_seen"),
        ("valid/easy", "valid%2Feasy"),
        ("..", "%2E%2E"),
        ("", "%"),
        ("a\x00b \ud800", "a%00b%20%5Cud800"),
        ("x" * 150, "x" * 150),
    ],
)
def test_a_name_from_outside_names_one_file(name, file):
    assert file_name(name) == file


def test_names_that_no_file_system_takes_are_cut_and_stay_different(tmp_path):
    names = ["ü" * 100, "ü" * 101, "/" * 4000, "/" * 4001]
    for name in names:
        (tmp_path / f"step_000001_{file_name(name)}.json.partial.jsonl").touch()
    assert len(list(tmp_path.iterdir())) == len(names)


def test_a_file_that_grows_is_not_opened_through_a_link(tmp_path):
    with open_to_append(tmp_path / "log") as file:
        file.write(b"a\n")
    with open_to_append(tmp_path / "log") as file:
        file.write(b"b\n")
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(OSError, match="symbolic"):
        open_to_append(tmp_path / "link")


def test_a_fork_that_is_left_behind_keeps_no_lock_and_writes_nothing(tmp_path):
    path = tmp_path / "rows"
    (waits, go_on), (told, tell) = os.pipe(), os.pipe()
    with open_to_append(path) as file:
        lock(file)
        file.write(b"a row")  # still in the buffer, which a fork has, too
        child = os.fork()
        if child == 0:
            os.close(go_on)
            os.write(tell, b".")
            os.read(waits, 1)
            file.flush()
            os._exit(0)
        os.read(told, 1)
        with open_to_append(path) as other, pytest.raises(BlockingIOError):
            lock(other)
    with open_to_append(path) as other:
        lock(other)
    os.close(go_on)
    assert os.waitpid(child, 0)[1] == 0
    for descriptor in (waits, told, tell):
        os.close(descriptor)
    assert path.read_bytes() == b"a row"
