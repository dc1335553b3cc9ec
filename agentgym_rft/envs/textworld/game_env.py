"""The environment inside the worker process: TextWorld's engine behind the contract."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from agentgym_rft.envs.base import Expert
from agentgym_rft.envs.task_env import Outcome, TaskEnv
from agentgym_rft.envs.textworld.engine import Engine, Saved
from agentgym_rft.envs.textworld.games import game_file
from agentgym_rft.envs.textworld.tasks import panel, read_task
from agentgym_rft.errors import EnvError, ReplayDiverged

_MAX_COPIES = 16


class GameEnv(TaskEnv):
    """Plays one game at a time. `TextWorldEnv` hosts it and documents the arguments."""

    snapshot_kind: ClassVar[str] = "TextWorld-1"

    def __init__(
        self,
        games: Sequence[str],
        split: str,
        sizes: Mapping[str, int],
        max_steps: int,
        admissible: bool,
        cache_dir: str,
    ) -> None:
        super().__init__(split, max_steps, None, {})
        self._games = tuple(games)
        self._sizes = dict(sizes)
        self._show_admissible = admissible
        self._cache = Path(cache_dir)
        self._engine: Engine | None = None
        self._scout: Engine | None = None  # walks behind the player, and knows the commands that win
        self._scout_at = 0
        self._log: list[str] = []
        self._copies: OrderedDict[tuple[str, ...], Saved] = OrderedDict()  # of the task that is loaded

    def task_ids(self, split: str) -> list[str]:
        self.check_split(split)
        return panel(self._games, split, self._sizes[split])

    def oracle(self) -> Expert:
        return _Oracle(self)

    def remaining(self) -> int | None:
        engine = self._playing()
        if engine.won:
            return 0
        commands = [] if engine.lost else self.winning_commands()
        return len(commands) or None

    def winning_commands(self) -> list[str]:
        """Return commands that win from the current state, by the engine's own account; none if it knows none."""
        engine = self._playing()
        if self._scout is None:
            self._scout, self._scout_at = Engine(engine.path, policy=True), 0
        for command in self._log[self._scout_at :]:
            self._scout.step(command)
        self._scout_at = len(self._log)
        return self._scout.policy()

    def close(self) -> None:
        super().close()
        self._drop_scout()
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _begin(self, task_id: str) -> str:
        self._drop_scout()
        self._log = []
        path = game_file(read_task(task_id), self._cache)
        if self._engine is not None and self._engine.path == path:
            self._engine.reset()
            return self._engine.observation
        self._copies.clear()
        if self._engine is not None:
            self._engine.close()
        self._engine = Engine(path)  # not `load` into the old one, which leaks half a megabyte each time
        return self._engine.observation

    def _act(self, action: str) -> Outcome:
        engine = self._playing()
        before = engine.score
        engine.step(action)
        self._log.append(action)
        is_final = engine.won or engine.lost
        return Outcome(engine.observation, engine.score - before, is_final, engine.is_invalid)

    def _facts(self) -> dict[str, Any]:
        engine = self._playing()
        facts: dict[str, Any] = {
            "won": engine.won,
            "score": engine.score,
            "state_key": engine.state_key(),
            "task_type": read_task(self._task_id).family,
            "goal": engine.objective,
        }
        if self._show_admissible:
            facts["admissible_actions"] = engine.admissible()
        return facts

    def _saved(self) -> dict[str, Any]:
        return {"log": self._log, "key": self._playing().state_key()}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        """Go to the end of a log: by an engine copy where this process has been there before, else by replaying it.

        Keeping and loading a copy costs less than one step (benchmarks/textworld_speed.py), so it always pays.
        """
        engine = self._playing()
        self._log = [str(command) for command in saved["log"]]
        point = tuple(self._log)
        if point in self._copies:
            self._copies.move_to_end(point)
            engine.load(self._copies[point])
            return
        for command in self._log:
            engine.step(command)
        if engine.state_key() != saved["key"]:
            raise ReplayDiverged(f"Replaying {len(point)} commands led to another state than the recorded one.")
        self._copies[point] = engine.save()
        if len(self._copies) > _MAX_COPIES:
            self._copies.popitem(last=False)

    def _playing(self) -> Engine:
        if self._engine is None:
            raise EnvError("There is no running episode; call reset first.")
        return self._engine

    def _drop_scout(self) -> None:
        if self._scout is not None:
            self._scout.close()
        self._scout, self._scout_at = None, 0


class _Oracle:
    """Takes the first of the commands that win; looks around where the engine knows none."""

    def __init__(self, env: GameEnv) -> None:
        self._env = env

    def act(self, observation: str) -> str:
        return next(iter(self._env.winning_commands()), "look")
