"""What all registries do alike."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial

import pytest

from agentgym_rft.errors import RegistryError
from agentgym_rft.registry.base import FunctionRegistry, load_object
from tests.registry.packages import install


@dataclass(frozen=True)
class Thing:
    source: object
    size: int = 1


def things():
    return FunctionRegistry("Thing", "tests.things", Thing, ("x",))


def double(x):
    return 2 * x


NUMBER = 3
PLACE = f"{__name__}:double"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to install into and import from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("plugin", "plugin_parts", "other"):
        sys.modules.pop(name, None)


def test_a_registry_is_a_mapping_of_sorted_names():
    known = things()
    assert known.decorator("twice", Thing)(double) is double
    known.register("once", Thing(abs))
    assert list(known) == ["once", "twice"]
    assert len(known) == 2
    assert known["twice"] == Thing(double)
    assert known.get("thrice") is None
    assert "thrice" not in known


def test_an_unknown_name_is_answered_with_the_closest_or_with_all():
    known = things()
    known.register("twice", Thing(double))
    with pytest.raises(RegistryError, match=r"^Thing 'twize' is not registered\. Did you mean 'twice'\?$"):
        known.lookup("twize")
    with pytest.raises(RegistryError, match=r"^Thing 'zzz' is not registered\. Known: twice\.$"):
        known.lookup("zzz")


def test_the_same_again_changes_nothing_and_a_taken_name_is_refused():
    known = things()
    known.register("twice", Thing(double))
    known.register("twice", Thing(double))
    for other in (Thing(abs), Thing(double, size=2), "math:sqrt"):
        with pytest.raises(RegistryError, match=f"^Thing 'twice' is registered already, as {PLACE}\\.$"):
            known.register("twice", other)
    assert known["twice"] == Thing(double)


def test_a_function_that_is_defined_again_takes_the_place_of_the_old_one():
    known = things()
    for size in (1, 2):

        @known.decorator("cell", partial(Thing, size=size))
        def cell(x, size=size):
            return size * x

    assert known["cell"] == Thing(cell, 2)
    assert known["cell"].source(1) == 2


def test_two_lambdas_are_two_things():
    known = things()
    known.register("first", Thing(lambda x: x))
    with pytest.raises(RegistryError, match="registered already"):
        known.register("first", Thing(lambda x: x + 1))


def test_a_path_is_the_entry_that_was_registered_or_a_new_one():
    known = things()
    assert known.lookup(PLACE) == Thing(double, 1)
    assert list(known) == []
    known.register("twice", Thing(double, size=5))
    assert known.lookup(PLACE) is known["twice"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("no_such_module_1:f", "'no_such_module_1:f' cannot be imported: there is no module 'no_such_module_1'."),
        (f"{__name__}:doubel", f"Module '{__name__}' has no 'doubel'. Did you mean 'double'?"),
        (f"{__name__}:", f"'{__name__}:' names no object."),
        (f"{__name__}:NUMBER", f"'{__name__}:NUMBER' is of type int, expected a function."),
        (f"{__name__}:things", f"Thing '{__name__}:things' cannot be called with (x): too many positional arguments."),
    ],
)
def test_a_path_to_nothing_of_use_is_refused(path, sentence):
    with pytest.raises(RegistryError) as error:
        things().lookup(path)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("def f(:", "invalid syntax (half_written.py, line 1)"), ("from json import lods", "cannot import name 'lods'")],
)
def test_a_module_that_cannot_be_imported_is_refused_with_the_reason(tmp_path, monkeypatch, source, reason):
    (tmp_path / "half_written.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RegistryError) as error:
        load_object("half_written:f")
    assert str(error.value).startswith(f"'half_written:f' cannot be imported: {reason}")


def test_a_function_that_cannot_be_called_as_the_others_is_refused_at_once():
    known = things()
    with pytest.raises(RegistryError, match=r"^Thing 'none' cannot be called with \(x\): "):
        known.register("none", Thing(things))
    assert "none" not in known


def test_an_installed_package_adds_names_and_is_imported_only_when_one_is_read(folder):
    install(folder, {"tests.things": {"half": "plugin:half"}}, "def half(x):\n    return x / 2\n")
    known = things()
    assert list(known) == ["half"]
    assert "plugin" not in sys.modules
    assert known.lookup("half").source(4) == 2
    assert known["half"] is known["half"]


def test_a_package_may_decorate_what_its_entry_point_names_where_it_offers_it(folder, monkeypatch):
    known = things()
    monkeypatch.setattr(sys.modules[__name__], "SHARED", known, raising=False)
    (folder / "plugin").mkdir()
    (folder / "plugin" / "__init__.py").write_text("from plugin.parts import half\n")
    (folder / "plugin" / "parts.py").write_text(
        f"from {__name__} import SHARED, Thing\n"
        "@SHARED.decorator('half', lambda made: Thing(made, 7))\n"
        "def half(x):\n    return x / 2\n"
    )
    install(folder, {"tests.things": {"half": "plugin:half"}})
    (folder / "plugin.py").unlink()
    assert known.lookup("half").size == 7
    assert list(known) == ["half"]
    sys.modules.pop("plugin.parts")

    imported_first = things()
    monkeypatch.setattr(sys.modules[__name__], "SHARED", imported_first)
    sys.modules.pop("plugin")
    __import__("plugin")
    assert list(imported_first) == ["half"]
    assert imported_first.lookup("half").size == 7
    sys.modules.pop("plugin.parts")


def test_a_package_that_takes_the_name_of_another_is_refused_each_time(folder):
    install(folder, {"tests.things": {"half": "plugin:half"}})
    install(folder, {"tests.things": {"half": "other:half"}}, name="other")
    known = things()
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"Thing 'half' is registered already, as (plugin|other):half\."):
            known.lookup("quarter")
