from __future__ import annotations

import pytest
import yaml

from agentgym_rft.config.yaml_text import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("-2E5", -200000.0), ("+.5e1", 5.0), ("3.e2", 300.0), ("1.5", 1.5), ("7", 7), ("1e", "1e")],
)
def test_numbers_are_those_of_everyday(text, value):
    found = parse_yaml(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_a_quoted_number_is_text():
    assert parse_yaml("a: '1e-3'") == {"a": "1e-3"}


def test_a_key_that_is_given_twice_is_refused_with_its_line():
    with pytest.raises(yaml.MarkedYAMLError, match="the key 'trainer' is given twice") as error:
        parse_yaml("trainer: {steps: 1}\nrun: {}\ntrainer: {steps: 2}")
    assert error.value.problem_mark.line == 2


def test_aliases_and_merge_keys_are_read():
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}") == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}


def test_aliases_that_grow_into_millions_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 8)]
    with pytest.raises(yaml.YAMLError, match="more than 100000 values"):
        parse_yaml("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 3000 + "]" * 3000, "more than 50 levels"),
        ("a: &a [*a]", "an alias inside of what it stands for"),
        ("a: 2020-13-45", "month"),
        ("a: " + "9" * 5000, "more than 1000 digits"),
        ("a: 0x" + "f" * 5000, "more than 1000 digits"),
        ('a: "\\ud800"', "half of a surrogate pair"),
    ],
)
def test_what_cannot_be_a_configuration_is_a_yaml_error(text, problem):
    with pytest.raises(yaml.YAMLError, match=problem):
        parse_yaml(text)
