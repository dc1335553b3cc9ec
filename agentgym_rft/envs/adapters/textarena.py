"""Adapts TextArena's games for two players (extra `multi`). Rules, prompts and messages stay as they are."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.adapters.seeded_games import SeededGame
from agentgym_rft.envs.adapters.seeds import MAX_STEPS
from agentgym_rft.errors import ConfigError, EnvError, did_you_mean

_GLOBAL_GENERATORS = threading.Lock()
_GAME = -1  # the sender of TextArena's messages that come from no player
_UNREADABLE = "it cannot be read."


class TextArenaEnv(SeededGame):
    """A game of TextArena between `player_0` and `player_1`.

    A player reads the game's messages to it since its last turn, `[GAME] ...` and `[Player 1] ...`, but not its own
    words. TextArena's wrappers of actions stay, those of observations, which repeat the past, are left out. An invalid
    move is answered as the game says; most let the player try once more, then it loses. A text that the game fails to
    read is an invalid move. Rewards come at the end, usually 1, 0 or -1; `score` is 1, 0.5 or 0.
    TextArena draws from Python's and numpy's global generators: each game has their states to itself during its calls.

    Args:
        game: a game's id, such as `TicTacToe-v0`.
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many turns, refused moves included.
    Raises:
        ConfigError: TextArena is not installed, has no such game, or lacks what the game needs.
    """

    snapshot_kind: ClassVar[str] = "textarena-0"
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "name": "textarena_v0", "is_parallelizable": False}

    def __init__(self, game: str = "TicTacToe-v0", split: str = "train", max_steps: int = MAX_STEPS) -> None:
        self._generators = _generators(0)
        with self._own_generators():
            self._unplayed = _made(game)
        self._game: Any = None
        self._base: Any = None  # the game without its wrappers
        super().__init__(f"TextArena's {game}", f"textarena {game}", ["player_0", "player_1"], split, max_steps)

    def _open(self, seed: int) -> str:
        self._generators = _generators(seed)
        self._game = self._base = copy.deepcopy(self._unplayed)  # some games carry over what reset should begin anew
        while "env" in vars(self._base):
            self._base = self._base.env
        with self._own_generators():
            try:
                self._game.reset(num_players=2, seed=seed)
            except AssertionError as error:  # how TextArena refuses a number of players
                raise EnvError(f"{self._name} is no game of two players: {error}") from error
        return self._deliver()

    def _play(self, agent: str, action: str) -> str | None:
        state = self._base.state
        with self._own_generators():
            is_over = self._step(state, action.encode("utf-8", "replace").decode())
        if is_over:
            player = self._number(agent)
            if state.game_info[player].get("invalid_move"):
                self.refuse(agent)
            for number, reward in (state.rewards or {}).items():
                self.give(self.possible_agents[number], float(reward))
            reason = state.game_info[player].get("reason")
            self._deliver()
            for seat in self.possible_agents if reason else ():
                self.tell(seat, f"[GAME] {reason}")
            return None
        if state.error_count:  # of moves in a row; the game sets it back to 0 at a valid one
            self.refuse(agent)
        return self._deliver()

    def _step(self, state: Any, action: str) -> bool:
        """Return whether the game is over after an action."""
        try:
            is_over, _ = self._game.step(action)
        except Exception:  # games parse text in ways of their own; what breaks one is a move that it cannot read
            if not state.done:
                state.set_invalid_move(reason=_UNREADABLE)
            is_over, _ = state.step()
        return bool(is_over or state.done)

    def _deliver(self) -> str:
        """Tell all players the messages that wait for them. Returns whose turn it is."""
        state = self._base.state
        for number, messages in state.observations.items():
            for speaker, message, _ in messages:
                if speaker != number:
                    name = "GAME" if speaker == _GAME else state.role_mapping.get(speaker, f"Player {speaker}")
                    self.tell(self.possible_agents[number], f"[{name}] {message}")
            state.observations[number] = []
        return self.possible_agents[int(state.current_player_id)]

    def _number(self, agent: str) -> int:
        return self.possible_agents.index(agent)

    @contextmanager
    def _own_generators(self) -> Iterator[None]:
        """Return the global generators as this game left them; afterwards they are as they were."""
        with _GLOBAL_GENERATORS:
            kept = random.getstate(), np.random.get_state()  # noqa: NPY002
            random.setstate(self._generators[0])
            np.random.set_state(self._generators[1])  # noqa: NPY002
            try:
                yield
            finally:
                self._generators = random.getstate(), np.random.get_state()  # noqa: NPY002
                random.setstate(kept[0])
                np.random.set_state(kept[1])  # noqa: NPY002


def _generators(seed: int) -> tuple[Any, Any]:
    """Return the states of Python's and numpy's global generators, seeded."""
    return random.Random(seed).getstate(), np.random.RandomState(seed).get_state()


def _made(game: str) -> Any:
    try:
        import textarena
        from textarena.envs.registration import ENV_REGISTRY
    except ImportError as error:
        raise ConfigError("TextArena is not installed; run: pip install 'agentgym-rft[multi]'") from error
    if game not in ENV_REGISTRY:
        raise ConfigError(f"TextArena has no game '{game}'.{did_you_mean(game, ENV_REGISTRY)}")
    try:
        return textarena.make(game)
    except (ImportError, LookupError, OSError, ValueError) as error:  # word lists, keys and services that are missing
        raise ConfigError(f"TextArena cannot make '{game}' here: {type(error).__name__}: {error}.") from error
