"""The real ALFWorld engine (extra `alfworld`), with the same interface as our own.

It is for games whose rules our engine does not know, and for comparing the two. It is slow (tens of steps a second) and
large: every `RealWorld` loads a copy of the planner library that the process keeps, so one is used for many games.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agentgym_rft.errors import ConfigError, EnvError, ReplayDiverged

_UNSEEN = frozenset({"checked", "examined", "ison", "not_ison"})  # facts that nothing printed or allowed depends on


@contextmanager
def _same_data_folder() -> Iterator[None]:
    """Leave ALFWORLD_DATA unset where it was: importing alfworld sets it, and without it games are generated."""
    was_set = "ALFWORLD_DATA" in os.environ
    try:
        yield
    finally:
        if not was_set:
            os.environ.pop("ALFWORLD_DATA", None)


class RealWorld:
    """A game being played by alfworld and textworld. Snapshots are action logs, restored by replaying them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Load the real engine and a game. Raises `ConfigError` if alfworld is not installed."""
        try:
            with _same_data_folder():
                from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
                from textworld import EnvInfos
                from textworld.envs.pddl.pddl import PddlEnv
        except ImportError as error:
            raise ConfigError(
                f'backend="textworld" needs the real engine ({error}); '
                'install it with: pip install "agentgym-rft[alfworld]".'
            ) from error
        self._pddl = PddlEnv(EnvInfos(won=True, admissible_commands=True))
        self._env = AlfredDemangler(self._pddl)
        self.load(document)

    def load(self, document: Mapping[str, Any]) -> None:
        """Change to the game of a `game.tw-pddl` document, at its start."""
        self._env.load(dict(document))
        self.reset()

    def reset(self) -> None:
        """Back to the start of the game."""
        self._state = self._env.reset()
        self._log: list[str] = []
        self._intro = str(self._state.feedback)

    def observation(self) -> str:
        return self._intro

    def step(self, command: str) -> str:
        self._state, _, _ = self._env.step(command)
        self._log.append(command)
        return str(self._state.feedback)

    def admissible(self) -> list[str]:
        return list(self._state["admissible_commands"])

    @property
    def won(self) -> bool:
        return bool(self._state["won"])

    def state_key(self) -> str:
        """Return 32 hex digits: a hash of the facts.
        Finer than the own engine's: it keeps what was ever taken from where.
        """
        facts = sorted(
            str(fact)
            for fact in self._pddl._pddl_state.facts
            if fact.name not in _UNSEEN and (not fact.is_negation or fact.name == "not_inreceptacle")
        )
        return hashlib.blake2b("\n".join(facts).encode(), digest_size=16).hexdigest()

    def snapshot(self) -> bytes:
        return json.dumps({"log": self._log, "key": self.state_key()}).encode()

    def restore(self, snapshot: bytes) -> None:
        """Replay the log of a snapshot. Raises `ReplayDiverged` if it leads elsewhere, `EnvError` if it is damaged."""
        try:
            saved = json.loads(snapshot)
            log, key = list(map(str, saved["log"])), saved["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise EnvError("The snapshot is damaged; take a new one.") from error
        self.reset()
        for command in log:
            self.step(command)
        if self.state_key() != key:
            raise ReplayDiverged(f"Replaying {len(log)} commands led to another state than the recorded one.")
