"""The WebShop environment: buy what an instruction asks for."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from agentgym_rft.envs.base import Expert, Lesson
from agentgym_rft.envs.task_env import Outcome, TaskEnv
from agentgym_rft.envs.webshop import pages
from agentgym_rft.envs.webshop.catalog import Catalog, CatalogOptions, open_catalog
from agentgym_rft.envs.webshop.compact import CompactPlayer, as_compact, with_asin, with_number
from agentgym_rft.envs.webshop.goals import HUMAN, TEMPLATE, Goal
from agentgym_rft.envs.webshop.lesson import HeedingPlayer, lesson
from agentgym_rft.envs.webshop.oracle import OraclePlayer
from agentgym_rft.envs.webshop.planning import Planner
from agentgym_rft.envs.webshop.players import TRIES, RandomPlayer, SearchExpert
from agentgym_rft.envs.webshop.presets import find_preset
from agentgym_rft.envs.webshop.session import SEARCH, Session, Shop
from agentgym_rft.envs.webshop.splits import SPLITS, TaskIds
from agentgym_rft.envs.webshop.stock import open_stock
from agentgym_rft.errors import ConfigError, DataError, EnvError, NoTasksError, did_you_mean

COMPACT = "compact"
MODES = (*pages.MODES, COMPACT)
SEARCH_HINT = "search[<your query>]"  # how a search is listed among the admissible actions


class WebShopEnv(TaskEnv):
    """Search a shop, look at products, choose options, buy. The reward comes with buying, which ends the episode.

    Args:
        data: folder with the original files; without it the one that WEBSHOP_DATA names, else a synthetic catalogue.
        split: the tasks that `reset` draws from without a `task_id`.
        preset: the protocol: `strict` (own), `princeton`, `verl_agent_small`, `r3l` or `agentgym`.
        observation_mode: `text`, `text_rich`, `url`, `html`, or `compact` (ours, short); None: the preset's.
        num_products: how many; None: all of the files, or 1,000 synthetic ones.
        seed: of the synthetic catalogue, and of prices and caps.
        human_goals: what people wrote, or templates; None: the preset's choice, which for `strict` is both.
        max_steps: the episode is truncated after so many actions; None: the preset's.
        strict_options: options count only if exactly they were chosen; the original accepts what looks like them.
        special_queries: open the original's back doors, such as a search for `<q> query`.
        show_attrs: the item page links to a page with the product's attributes.
        num_prev_obs: observations before the current one that are shown with it, as in the original.
        num_prev_actions: the same for actions.
        search: `bm25`, or `tantivy` (extra), which ranks differently.
        nouns: the tagger of the reward: `lexicon`, or the name of a spaCy model (extra `spacy`).
        cache_dir: where converted files and large indexes are kept; None: in the user's cache folder.
        admissible: give the actions that can be done as `info["admissible_actions"]`.
        expert_tries: products that the scripted expert examines before it buys the best; 1: it buys the first.
    Raises:
        DataError: the files are missing, damaged or do not fit together, or the split is unknown.
        ConfigError: another argument is wrong.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
    snapshot_kind: ClassVar[str] = "webshop-1"
    has_lessons: ClassVar[bool] = True

    def __init__(
        self,
        data: str | None = None,
        split: str = "train",
        preset: str = "strict",
        observation_mode: Literal["text", "text_rich", "url", "html", "compact"] | None = None,
        num_products: int | None = None,
        seed: int = 0,
        human_goals: bool | None = None,
        max_steps: int | None = None,
        strict_options: bool = False,
        special_queries: bool = False,
        show_attrs: bool = False,
        num_prev_obs: int = 0,
        num_prev_actions: int = 0,
        search: str = "bm25",
        nouns: str = "lexicon",
        cache_dir: str | None = None,
        admissible: bool = True,
        expert_tries: int = TRIES,
        render_mode: str | None = None,
    ) -> None:
        rules = find_preset(preset)
        self._mode = observation_mode or rules.observation_mode
        if self._mode not in MODES:
            raise ConfigError(f"There is no observation_mode '{self._mode}'.{did_you_mean(self._mode, MODES)}")
        if min(num_prev_obs, num_prev_actions) < 0:
            raise ConfigError("num_prev_obs and num_prev_actions are counts; expected 0 or more.")
        if expert_tries < 1:
            raise ConfigError(f"expert_tries is {expert_tries}; expected at least 1.")
        self._preset = rules
        self._expert_tries = expert_tries
        self._num_prev = (num_prev_obs, num_prev_actions)
        self._show_admissible = admissible
        kinds = rules.kinds if human_goals is None else (HUMAN if human_goals else TEMPLATE,)
        options = CatalogOptions(data, num_products, seed, search, nouns, cache_dir)
        self._stock = open_stock(open_catalog(options), preset, kinds, seed)
        self._shop = Shop(
            self._stock.catalog,
            self._stock.goals.rules.pricing,
            search_anywhere=rules.search_anywhere,
            endless_next=rules.endless_next,
            special_queries=special_queries,
            show_attributes=show_attrs,
            strict_options=strict_options,
        )
        defining = {
            "catalog": self._stock.catalog.name,
            "preset": preset,
            "kinds": list(kinds),
            "seed": seed,
            "mode": self._mode,
            "switches": [strict_options, special_queries, show_attrs, num_prev_obs, num_prev_actions],
        }
        super().__init__(split, rules.max_steps if max_steps is None else max_steps, render_mode, defining)
        self._session: Session | None = None
        self._planner: Planner | None = None  # of the goal of the session
        longest = max(num_prev_obs, num_prev_actions, 1)
        self._past_observations: deque[str] = deque(maxlen=longest)
        self._past_actions: deque[str] = deque(maxlen=longest)

    @property
    def catalog(self) -> Catalog:
        """The catalogue, shared by all environments of the process that have the same."""
        return self._stock.catalog

    @property
    def session(self) -> Session:
        """The session of the running episode. Raises `EnvError` before the first reset."""
        if self._session is None:
            raise EnvError("There is no episode; call reset first.")
        return self._session

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        indexes = self._stock.indexes[split]
        if not len(indexes):
            raise NoTasksError(
                f"Split '{split}' has no goals: {self._stock.catalog.name} has {len(self._stock.goals)} of the kind(s) "
                f"{', '.join(self._stock.goals.rules.kinds)}; use more products or other goals."
            )
        return TaskIds(indexes, self._task_name)

    def goal(self, task_id: str) -> Goal:
        """Return the goal of a task. Raises `DataError` if there is none of that id."""
        return self._stock.goals[self._index(task_id)]

    def task_content(self, task_id: str) -> bytes:
        return self.goal(task_id).content()

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Expert:
        return self._player(SearchExpert(rng, noise, self._expert_tries))

    def oracle(self) -> Expert:
        return self._player(OraclePlayer(self.session))

    def random_player(self, rng: np.random.Generator) -> Expert:
        return self._player(RandomPlayer(rng))

    def remaining(self) -> int | None:
        """Return the fewest actions to a purchase with reward 1: 0 once it is made.

        After any other purchase the fewest of a fresh episode, as one has to begin again. None if no search of the
        oracle finds the product, or no choice of its options is worth 1, which the original's data has and the
        synthetic shop has not. It is the length of the oracle's way: see `Planner.best` for what makes it the shortest;
        another product that would give 1 as well counts only while it is open, so elsewhere less may do. Limits on
        steps do not count.
        """
        session = self.session
        if session.verdict is not None and session.verdict.reward == 1.0:
            return 0
        if self._planner is None:
            self._planner = Planner(self._shop, session.goal)
        way = self._planner.best(session)
        return len(way.actions) if way is not None and way.wins else None

    def lesson(self, observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
        return lesson(observation, steps, pivot)

    def resumed_expert(self, observation: str, steps: Sequence[tuple[str, str]], suggestion: str) -> Expert:
        return HeedingPlayer(suggestion, self._player(SearchExpert(tries=self._expert_tries)), self._admissible)

    def _player(self, player: Expert) -> Expert:
        return CompactPlayer(player, self.session) if self._mode == COMPACT else player

    def _page(self) -> str:
        session = self.session
        return as_compact(session.nodes()) if self._mode == COMPACT else session.observation(self._mode)

    def _begin(self, task_id: str) -> str:
        self._session = Session(self._shop, self.goal(task_id), str(self._index(task_id)))
        self._planner = None
        observation = self._page()
        self._past_observations.clear()
        self._past_actions.clear()
        self._past_observations.append(observation)
        return observation

    def _act(self, action: str) -> Outcome:
        session = self.session
        is_repeat = self._preset.ends_on_repeat and [action] == list(self._past_actions)[-1:]
        result = session.step(with_asin(action, session.links()) if self._mode == COMPACT else action)
        current = self._page()
        self._past_actions.append(action)
        shown = self._with_past(current)
        self._past_observations.append(current)
        return Outcome(shown, result.reward, result.done or is_repeat, not result.is_valid)

    def _with_past(self, current: str) -> str:
        """Return the observation with earlier ones and the actions between, oldest first, as the original joins
        them.
        """
        num_observations, num_actions = self._num_prev
        if not num_observations and not num_actions:
            return current
        observations, actions = list(self._past_observations), list(self._past_actions)
        parts = [current]
        for back in range(1, max(num_observations, num_actions) + 1):
            if back <= min(num_actions, len(actions)):
                parts.append(actions[-back])
            if back <= min(num_observations, len(observations)):
                parts.append(observations[-back])
        return " [SEP] ".join(reversed(parts))

    def _facts(self) -> dict[str, Any]:
        session = self.session
        verdict = session.verdict
        score = verdict.reward if verdict is not None else 0.0
        facts: dict[str, Any] = {
            "won": score == 1.0,
            "score": score,
            "state_key": json.dumps([session.id, session.snapshot()], separators=(",", ":")),
            "task_type": session.goal.category,
            "goal": session.goal.instruction,
        }
        if self._show_admissible:
            facts["admissible_actions"] = self._admissible()
        return facts

    def _admissible(self) -> list[str]:
        available = self.session.available_actions()
        links = self.session.links() if self._mode == COMPACT else []
        searches = [SEARCH_HINT] if available["has_search_bar"] else []
        clicks = [f"click[{label}]" for label in available["clickables"] if label != SEARCH]
        return searches + [with_number(click, links) for click in clicks]

    def _saved(self) -> dict[str, Any]:
        return {
            "session": self.session.snapshot(),
            "observations": list(self._past_observations),
            "actions": list(self._past_actions),
        }

    def _resume(self, saved: Mapping[str, Any]) -> None:
        self.session.restore(saved["session"])
        for past, name in ((self._past_observations, "observations"), (self._past_actions, "actions")):
            past.clear()
            past.extend(saved[name])

    def _index(self, task_id: str) -> int:
        """Return the position of a task among all goals. Raises `DataError` if there is none of that id."""
        prefix = self._prefix()
        if task_id.startswith(prefix):
            try:
                return self._stock.goals.index_of(task_id[len(prefix) :])
            except KeyError:
                pass  # said below
        raise DataError(f"There is no task '{task_id[:100]}'; expected {prefix}<kind>/<asin>/<variant> of a goal.")

    def _prefix(self) -> str:
        return f"{self._stock.catalog.name}/{self._preset.name}/"

    def _task_name(self, index: int) -> str:
        return self._prefix() + self._stock.goals.id_of(index)
