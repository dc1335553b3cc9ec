"""One game in the real engine. Not thread-safe: it lives in a process of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SEED = 20240601  # of the interpreter's own generator, so that the same commands always print the same text
_MAX_COMMAND = 190  # characters that the interpreter reads of a line
_SUCCEEDED = re.compile(r"\[[^\]]* - succeeded\]")
_STATUS_LINE = re.compile(r"\n>[^\n]*\Z")
_QUESTION = re.compile(r"\s*Would you like to RESTART,.*\Z", re.DOTALL)
_BANNER = re.compile(r"\A(?:[ $_|\\/<>]*\n)+")
_SENTENCES = re.compile(r"[.,;]|\bthen\b")
# Commands to the interpreter instead of the player. They would end, rewind or retrace the game behind the tracker of
# its state, ask questions that swallow the next command, or write files.
_META = frozenset(
    {"quit", "q", "restart", "restore", "save", "undo", "oops", "o", "again", "g", "replay", "recording"}
    | {"script", "transcript", "unscript", "noscript", "verify", "version", "notify", "pronouns", "nouns"}
    | {"superbrief", "short", "verbose", "long", "brief", "normal"}
)
# What changes in a game outside of the machine (textworld 1.7, wrappers/tw_inform7.py and zmachine/jericho.py).
_PROGRESS = "_game_progression"
_CHANGING = (
    "state",
    "_prev_state",
    "_last_action",
    "_previous_winning_policy",
    "_current_winning_policy",
    "_moves",
    _PROGRESS,
)
REFUSED = "That's not a verb I recognise."


@dataclass(frozen=True, slots=True)
class Saved:
    """A point of a game, in this process only."""

    machine: Any
    layers: list[dict[str, Any]]
    state: Any
    observation: str


class Engine:
    """A game. After making it or `reset` it is at its start.

    Args:
        path: a story file with its `game.json`.
        policy: follow the commands that win from the current state; costs as much again as a step.
    """

    def __init__(self, path: Path, *, policy: bool = False) -> None:
        import textworld
        from textworld import EnvInfos

        from agentgym_rft.envs.textworld.sentences import LastReport

        self.path = path
        infos = EnvInfos(
            admissible_commands=True,
            policy_commands=policy,
            score=True,
            max_score=True,
            objective=True,
            won=True,
            lost=True,
        )
        self._env = textworld.start(str(path), infos)
        outer = self._layers()[-2]  # around the interpreter
        outer["_wrapped_env"] = LastReport(outer["_wrapped_env"])
        self._env.seed(_SEED)
        self.reset()

    def reset(self) -> None:
        """Back to the start of the game."""
        self._state = self._env.reset()
        self.observation = _readable(str(self._state.feedback))
        self.is_invalid = False

    def step(self, action: str) -> None:
        """Carry out what a player typed, whatever it is. `is_invalid`: nothing of it could be done."""
        command = _typed(action)
        if _is_meta(command):
            self.observation, self.is_invalid = REFUSED, True
            return
        self._state = self._env.step(command)[0]
        self.observation = _readable(str(self._state.feedback))
        self.is_invalid = _SUCCEEDED.search(str(self._state.raw)) is None

    @property
    def won(self) -> bool:
        return bool(self._state.won)

    @property
    def lost(self) -> bool:
        return bool(self._state.lost)

    @property
    def score(self) -> float:
        """The engine's score as a share of its maximum."""
        highest = int(self._state.max_score or 1)
        return min(1.0, max(0.0, int(self._state.score or 0) / highest))

    @property
    def objective(self) -> str:
        return " ".join(str(self._state.objective).split())

    def admissible(self) -> list[str]:
        return list(map(str, self._state.admissible_commands))

    def policy(self) -> list[str]:
        """Return commands that win from here; none if it was made without `policy`, after the end, and where none is
        known.
        """
        return list(map(str, self._state.policy_commands or ()))

    def state_key(self) -> str:
        """Return 32 hex digits: a hash of the game, the facts of its world and the score."""
        parts = [self.path.parent.name, *sorted(map(str, self._state["_facts"])), repr(self.score)]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    def save(self) -> Saved:
        """Return this point, to `load` it as often as wanted; costs about as much as a step."""
        layers = [{name: layer[name] for name in _CHANGING if name in layer} for layer in self._layers()]
        return Saved(self._env.unwrapped._jericho.get_state(), _apart(layers), self._state, self.observation)

    def load(self, saved: Saved) -> None:
        """Back to a point of this game."""
        self._env.unwrapped._jericho.set_state(saved.machine)
        for layer, values in zip(self._layers(), _apart(saved.layers), strict=True):
            layer.update(values)
        self._state, self.observation, self.is_invalid = saved.state, saved.observation, False

    def close(self) -> None:
        self._env.close()

    def _layers(self) -> list[dict[str, Any]]:
        """Return the attributes of the interpreter's wrappers, from the outermost to the interpreter's own."""
        layers = [vars(self._env)]
        while "_wrapped_env" in layers[-1]:
            layers.append(vars(layers[-1]["_wrapped_env"]))
        return layers


def _apart(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Layers whose progress is a copy: the only value that the engine changes in place."""
    return [{name: value.copy() if name == _PROGRESS else value for name, value in layer.items()} for layer in layers]


def _typed(action: str) -> str:
    """Return an action as one line that the interpreter can read: ASCII, no control characters, no escapes of its
    own.
    """
    line = "".join(letter if " " <= letter <= "~" and letter != "\\" else " " for letter in action[: 4 * _MAX_COMMAND])
    return " ".join(line.split())[:_MAX_COMMAND]


def _is_meta(command: str) -> bool:
    starts = [sentence.split()[:1] for sentence in _SENTENCES.split(command.lower())]
    return any(start and (start[0] in _META or start[0].startswith("tw-")) for start in starts)


def _readable(feedback: str) -> str:
    """Return the text for a player: without the title, the status line and the interpreter's closing questions."""
    text = _QUESTION.sub("", _STATUS_LINE.sub("", feedback))
    lines = [line.strip() for line in _BANNER.sub("", text).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
