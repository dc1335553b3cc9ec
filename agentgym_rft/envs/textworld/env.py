"""The TextWorld environment: the real engine, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from agentgym_rft.envs.base import TRAIN_AND_TEST
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.task_selection import check_split
from agentgym_rft.envs.textworld.games import HASH_SEED, default_cache, engine_version
from agentgym_rft.envs.textworld.tasks import DEFAULT_GAMES, FIRST_TEST_SEED, check_game, panel, read_task
from agentgym_rft.errors import ConfigError

RECYCLE_AFTER = 500  # resets; the engine's memory grows with the games that it has loaded


class TextWorldEnv(ProcessEnv):
    """Text adventures made by TextWorld's generators. Reward: the part of the highest score that an action gains.

    A game is made when it is first played (1 to 4 s) and kept in the cache. The engine is not thread-safe and leaks:
    each environment has a process for it, which starts with the first episode and is replaced now and then.

    Args:
        games: families and levels, in turns: `coin_collector-l1` to `-l300` (at most 100 rooms), `treasure_hunter-l1`
            to `-l30`, `simple-l1` to `-l6`, `cooking-l1` to `-l10`. Commas separate them in a str.
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many actions.
        num_train, num_test: sizes of the splits. Ids of other seeds can be played, too.
        admissible: give the commands that change something as `info["admissible_actions"]`.
        cache_dir: where games are kept; default: `agentgym_rft/textworld` in the user's cache folder.
        timeout_s: deadline of each call, making a game included; None: no deadline.
    Raises:
        ConfigError: textworld is not installed, or an argument is wrong.
        DataError: the split is unknown.
    """

    can_snapshot: ClassVar[bool] = True
    splits: ClassVar[tuple[str, ...]] = TRAIN_AND_TEST

    def __init__(
        self,
        games: str | Sequence[str] = DEFAULT_GAMES,
        split: str = "train",
        max_steps: int = 50,
        num_train: int = 200,
        num_test: int = 50,
        admissible: bool = True,
        cache_dir: str | None = None,
        timeout_s: float | None = 120.0,
    ) -> None:
        self._engine_version = engine_version()
        self._games = tuple(name.strip() for name in games.split(",")) if isinstance(games, str) else tuple(games)
        self._sizes = {"train": num_train, "test": num_test}
        self._check(split, max_steps)
        options = {
            "games": self._games,
            "split": split,
            "sizes": self._sizes,
            "max_steps": max_steps,
            "admissible": admissible,
            "cache_dir": str(Path(cache_dir).expanduser().absolute() if cache_dir else default_cache()),
        }
        super().__init__(
            "agentgym_rft.envs.textworld.game_env:GameEnv",
            options,
            timeout_s=timeout_s,
            recycle_after=RECYCLE_AFTER,
            hash_seed=HASH_SEED,
            lazy=True,
        )

    def task_ids(self, split: str) -> Sequence[str]:
        check_split(split, self.splits)
        return panel(self._games, split, self._sizes[split])

    def task_content(self, task_id: str) -> bytes:
        """Return the parameters that the game is made from, with the version of textworld: known before the game is
        made.
        """
        return read_task(task_id).content(self._engine_version)

    def _check(self, split: str, max_steps: int) -> None:
        check_split(split, self.splits)
        if max_steps < 1:
            raise ConfigError(f"max_steps is {max_steps}; expected at least 1.")
        if not self._games:
            raise ConfigError("games is empty; name at least one family and level.")
        for name in self._games:
            check_game(name)
        if len(set(self._games)) < len(self._games):
            raise ConfigError(f"games names one twice: {', '.join(self._games)}.")
        for name, size in self._sizes.items():
            if not 1 <= size <= FIRST_TEST_SEED:
                raise ConfigError(f"num_{name} is {size}; expected 1 to {FIRST_TEST_SEED:,}.")
