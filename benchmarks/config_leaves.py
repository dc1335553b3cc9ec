"""How many keys the configuration of a training run has, and who sets each.

    python benchmarks/config_leaves.py            # a row a key: how many recipes, pages, tests and benchmarks set it
    python benchmarks/config_leaves.py --count    # the numbers alone

The page that lists all keys does not count. With `PYTHONPATH` at another checkout, the keys are those of that one.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
PLACES = {"docs": ("docs/*.md", "README.md"), "tests": ("tests/**/*.py",), "benchmarks": ("benchmarks/*.py",)}
LIST = ROOT / "docs/configuration.md"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the names of all keys that hold a value, and if `--help` shows them."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra
            yield f"{prefix}{name}", isinstance(extra, Mapping) and bool(extra.get("is_main"))


def given(data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of all keys in a recipe, those of its stages included."""
    for name, value in data.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from given(value, f"{prefix}{name}.")
    for stage in data.get("stages", ()):
        yield from given(stage)


def is_set(name: str, text: str) -> bool:
    """Return true if a text has the whole name, or the last part of it as the key of a mapping or argument."""
    last = re.escape(name.rpartition(".")[2])
    return name in text or re.search(rf"[\s({{]\"?{last}\"?(?:: |=)", text) is not None


def main() -> None:
    """Print the table and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true", help="print the numbers alone")
    arguments = parser.parse_args()
    try:
        from agentgym_rft.config.run import Config
    except ModuleNotFoundError:  # a checkout in which the configuration is one module
        from agentgym_rft.config import Config
    found = dict(keys(Config))
    if not arguments.count:
        recipes = [set(given(yaml.safe_load(path.read_text()))) for path in (ROOT / "trainers").glob("*.yaml")]
        texts = {
            place: [path.read_text() for pattern in patterns for path in ROOT.glob(pattern) if path != LIST]
            for place, patterns in PLACES.items()
        }
        print("| key | in --help | recipes | docs | tests | benchmarks |\n|---|---|---|---|---|---|")
        for name, is_main in found.items():
            counts = [sum(name in recipe for recipe in recipes)]
            counts += [sum(is_set(name, text) for text in texts[place]) for place in PLACES]
            print(f"| `{name}` | {'yes' if is_main else ''} | {' | '.join(map(str, counts))} |")
        print()
    print(f"{len(found)} keys, {sum(found.values())} of them in --help")


if __name__ == "__main__":
    main()
