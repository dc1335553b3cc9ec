"""Code and addresses that a file names are used only where the user has said so.

A recipe, a run and a panel are files, perhaps from somebody else. What they name and this command line does not needs
`--trust`, or a yes where there is a terminal. What a user said once is remembered for the folder it was said in, so a
run of one's own environment goes on, and is evaluated, as it was begun:

    $XDG_STATE_HOME/agentgym_rft/trusted.jsonl      a line each, [folder, name]

Names of installed packages are no code of a file: installing was the trust.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.errors import ConfigError
from agentgym_rft.json_text import parse_json
from agentgym_rft.report.terminal import printable
from agentgym_rft.store.files import open_to_append

TRUST_HELP = "Run the code and use the addresses that a recipe, run or panel names."
Trust = Annotated[bool, typer.Option("--trust", help=TRUST_HELP)]

_CODE = "code to run"
_ENDPOINT = "an address to send texts and OPENAI_API_KEY to"
_CLUSTER = "a Ray cluster to join"


def check_trust(config: Config | SftConfig, source: object, said: object, trust: bool, *, trains: bool = True) -> None:
    """Refuse what only a file names: code, and addresses that are sent a key or run code here.

    Args:
        config: fully resolved.
        source: the file or run that it comes from, for the sentence.
        said: what stands on the command line, in mappings and sequences.
        trust: `--trust` was given.
        trains: an evaluation or a replay uses the environment alone.
    Raises:
        ConfigError: it names something that the user has not said, and nobody says yes.
    """
    named = needs_trust(config, trains=trains)
    known = {*_texts(said), *_remembered(), os.environ.get("OPENAI_BASE_URL", "")}
    unknown = {name: what for name, what in named.items() if name not in known}
    if unknown and not trust:
        listed = " and ".join(f"{what}, '{name}'" for name, what in unknown.items())
        sentence = f"'{source}' names {listed}, and this command line does not."
        if not _is_agreed(sentence):
            raise ConfigError(f"{sentence} Read that first, and add --trust if it may be used.")
    if named:
        _remember(named)


def needs_trust(config: Config | SftConfig, *, trains: bool = True) -> dict[str, str]:
    """Return the code and the addresses that a configuration names, each with what it is."""
    if isinstance(config, SftConfig):
        return _code([config.env.id])
    ray, algorithm, rollout = config.rollout.ray, config.algorithm, config.rollout
    named = _code([config.env.id])
    if rollout.workers == "ray" and ray.address not in (None, "auto"):
        named[str(ray.address)] = _CLUSTER
    if not trains:
        return named
    entries = [*algorithm.controls, *rollout.operators]
    names = [entry if isinstance(entry, str) else str(entry.get("name")) for entry in entries]
    named |= _code([algorithm.name, rollout.strategy, *names])
    kind, _, endpoint = rollout.reflect.reflector.partition(":")
    return named | ({_url(endpoint): _ENDPOINT} if kind == "openai" else {})


def _code(names: Iterable[str]) -> dict[str, str]:
    return {name: _CODE for name in names if ":" in name}  # others are registered: built in, or installed


def _url(endpoint: str) -> str:
    """Return the address in `MODEL@URL`."""
    return endpoint.partition("@")[2]


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in a value, and the addresses in them."""
    if isinstance(value, str):
        yield from (value, _url(value))
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, Iterable):
        for part in value:
            yield from _texts(part)


def _is_agreed(sentence: str) -> bool:
    """Ask, where somebody can answer: not in a pipe, and not in one of several processes that torchrun started."""
    if "TORCHELASTIC_RUN_ID" in os.environ or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(printable(f"{sentence} Use it?"), err=True)


def _file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "agentgym_rft" / "trusted.jsonl"


def _remembered() -> set[str]:
    """Return what was said in this folder before."""
    try:
        lines = _file().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    found = set()
    for line in lines:
        with suppress(ValueError, TypeError):  # torn or foreign: not said
            folder, name = parse_json(line)
            found |= {name} if folder == os.getcwd() else set()
    return found


def _remember(names: Iterable[str]) -> None:
    """Note what was said in this folder; where that cannot be written, it has to be said again."""
    new = sorted(set(names) - _remembered())
    with suppress(OSError):
        _file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_to_append(_file()) as file:
            file.write("".join(json.dumps([os.getcwd(), name]) + "\n" for name in new).encode())
