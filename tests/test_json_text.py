"""JSON that anybody may have written: its depth, its types, and the checksums of lines."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from agentgym_rft.errors import DataError
from agentgym_rft.json_text import (
    Name,
    checked_json,
    is_text,
    parse_json,
    read_json,
    with_checksum,
    without_checksum,
)

NUMBERS = TypeAdapter(dict[str, list[int]])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": [1, "2"]}', "^its 'a.1' is '2': input should be a valid integer$"),
        ('{"a": [1.5]}', "^its 'a.0' is 1.5: "),
        ("[]", r"^it is \[\]: input should be a valid dictionary$"),
        ("[" * 3000, "^it nests too many levels$"),
        ("9" * 5000, "Exceeds the limit"),
        ("{", "Expecting property name"),
        (b"\xff\xfe\xfd", "decode"),
    ],
)
def test_what_is_wrong_with_a_text_is_one_short_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked_json(NUMBERS, text)


def test_half_of_a_surrogate_pair_is_a_text_but_no_name():
    half = '"\\ud800"'
    assert checked_json(TypeAdapter(str), half) == parse_json(half) == "\ud800"
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        checked_json(TypeAdapter(Name), half)
    assert [is_text(value) for value in ("a", "🏠", "\ud800", 3, None)] == [True, True, False, False, False]


def test_a_file_is_read_in_the_order_of_its_keys_or_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"b": [2], "a": []}')
    assert list(read_json(path, NUMBERS, "list")) == ["b", "a"]
    path.write_text('{"b": 2}')
    with pytest.raises(DataError, match=rf"^'{path}' is no list: its 'b' is 2: input should be a valid list\.$"):
        read_json(path, NUMBERS, "list")
    with pytest.raises(DataError, match=r"^Cannot read the list '.*none': No such file or directory\.$"):
        read_json(tmp_path / "none", NUMBERS, "list")


def test_a_line_comes_back_from_behind_its_checksum():
    line = with_checksum("abc def")
    assert line == "78b4acae abc def"
    assert without_checksum(line) == "abc def"


@pytest.mark.parametrize(
    "line", ["", "abc", "78b4acae abc deg", "78b4acaeabc def", "78B4ACAE abc def", "78b4acae abc déf"]
)
def test_a_line_that_has_changed_is_refused(line):
    with pytest.raises(ValueError, match="it has changed since it was written"):
        without_checksum(line)
