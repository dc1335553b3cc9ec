"""Reads YAML as people write configurations: `1e-3` is a number, a key is given once, and no small file grows huge."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from agentgym_rft.json_text import is_text

MAX_DEPTH = 50  # of mappings and lists in each other
MAX_VALUES = 100_000  # with every alias counted as what it stands for
MAX_DIGITS = 1000  # of a whole number; Python cannot show one of more than 4,300
_INT = "tag:yaml.org,2002:int"
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def parse_yaml(text: str) -> Any:
    """Return what a YAML document holds: mappings, lists, texts and numbers. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)
    except ValueError as error:  # of a number or a date that Python refuses
        raise yaml.YAMLError(str(error)) from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with bounds, without repeated keys, and with the numbers of YAML 1.2."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}  # values of each finished node, by id; nodes live as long as the loader

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node. Raises ComposerError beyond the bounds."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_DEPTH} levels", mark)
        if isinstance(event, yaml.ScalarEvent) and not is_text(event.value):
            raise yaml.composer.ComposerError(None, None, "a text with half of a surrogate pair", mark)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode) and node.tag == _INT and len(node.value) > MAX_DIGITS:
            raise yaml.composer.ComposerError(None, None, f"a number of more than {MAX_DIGITS} digits", mark)
        if is_alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias inside of what it stands for", mark)
        size = self._sizes.setdefault(id(node), 1 + sum(self._sizes[id(part)] for part in _parts(node)))
        if size > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_VALUES} values, aliases included", mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping. Raises ConstructorError for a key that is given twice, whose first value would be lost."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parts(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
