"""The question answering environment."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.search_qa.grading import best_f1, is_exact_match
from agentgym_rft.envs.search_qa.player import GuessingPlayer, OraclePlayer, ReadingPlayer
from agentgym_rft.envs.search_qa.questions import Question, question, questions
from agentgym_rft.envs.search_qa.world import make_world
from agentgym_rft.envs.task_env import Outcome, TaskEnv
from agentgym_rft.envs.text_search.index import SearchIndex
from agentgym_rft.errors import ConfigError, EnvError

NUM_SHOWN = 3
MAX_QUERY = 1000  # characters; the rest of a query is ignored
RULES = (
    "Answer the question. The facts are in a small encyclopedia; look them up.\n"
    "Actions: search[words] shows the documents that fit best, answer[text] ends with your answer."
)
_ACTION = re.compile(r"\s*(search|answer)\s*\[(.*)\]\s*", re.IGNORECASE | re.DOTALL)


class SearchQAEnv(TaskEnv):
    """Questions that need one, two or three facts of a fictional encyclopedia of 400 documents.

    `answer[...]` ends the episode. Reward is 1 if it matches exactly after normalisation, else 0; score is the F1 of
    its words, which also gives credit for a part of the answer.

    Args:
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the episode is truncated after so many actions.
        num_shown: documents that a search shows.
    Raises:
        DataError: the split is unknown.
        ConfigError: another argument is wrong.
    """

    snapshot_kind: ClassVar[str] = "search-qa-1"

    def __init__(
        self,
        split: str = "train",
        max_steps: int = 10,
        num_shown: int = NUM_SHOWN,
        render_mode: str | None = None,
    ) -> None:
        if not 1 <= num_shown <= 10:
            raise ConfigError(f"num_shown is {num_shown}; expected 1 to 10 documents.")
        super().__init__(split, max_steps, render_mode, {"num_shown": num_shown})
        self._num_shown = num_shown
        self._question: Question | None = None
        self._shown: set[int] = set()  # rows of the documents that were shown
        self._answer: str | None = None

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        return tuple(questions(split))

    def task_content(self, task_id: str) -> bytes:
        return question(task_id).content()

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> ReadingPlayer:
        """Return a player that takes the question apart and reads documents; at rate `noise` it searches beside the
        point.
        """
        return ReadingPlayer(observation, rng, noise)

    def oracle(self) -> OraclePlayer:
        """Return a player that searches for each document of the chain that was not shown yet, and gives the right
        answer.
        """
        asked, entities = self._asked(), list(make_world().entities.values())
        shown = {entities[row].name for row in self._shown}
        return OraclePlayer(tuple(title for title in asked.path if title not in shown), asked.answers[0])

    def random_player(self, rng: np.random.Generator) -> GuessingPlayer:
        return GuessingPlayer(rng, [entity.name for entity in make_world().entities.values()])

    def _begin(self, task_id: str) -> str:
        self._question = question(task_id)
        self._shown = set()
        self._answer = None
        return f"{RULES}\nQuestion: {self._question.text}"

    def _act(self, action: str) -> Outcome:
        match = _ACTION.fullmatch(action)
        if match is None:
            return Outcome("That is no action. Write search[words] or answer[text].", is_invalid=True)
        text = match[2].strip()
        if match[1].lower() == "search":
            return self._search(text)
        if not text:
            return Outcome("The answer is empty. Write answer[text].", is_invalid=True)
        self._answer = text
        is_right = is_exact_match(text, self._asked().answers)
        said = "The answer is right." if is_right else "The answer is wrong."
        return Outcome(said, reward=float(is_right), is_final=True)

    def _search(self, text: str) -> Outcome:
        rows = index().top(text[:MAX_QUERY], self._num_shown)
        if not rows:
            return Outcome("No document has any of these words.", is_invalid=not text)
        self._shown.update(rows)
        entities = list(make_world().entities.values())
        documents = (f"[{n}] {entities[row].name}\n{entities[row].text}" for n, row in enumerate(rows, start=1))
        return Outcome("\n".join(documents))

    def _facts(self) -> dict[str, Any]:
        asked = self._asked()
        won = self._answer is not None and is_exact_match(self._answer, asked.answers)
        score = 0.0 if self._answer is None else 1.0 if won else best_f1(self._answer, asked.answers)
        shown = ",".join(map(str, sorted(self._shown)))
        answered = "" if self._answer is None else f" {won} {score:.6f}"
        return {
            "won": won,
            "score": score,
            "state_key": f"{asked.task_id} {shown}{answered}",
            "task_type": f"{asked.num_hops}-hop",
            "goal": asked.text,
        }

    def _saved(self) -> dict[str, Any]:
        return {"shown": sorted(self._shown), "answer": self._answer}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        rows, answer = saved["shown"], saved["answer"]
        if not all(isinstance(row, int) and 0 <= row < len(make_world().entities) for row in rows):
            raise ValueError("it names documents that do not exist")
        if answer is not None and not isinstance(answer, str):
            raise TypeError("its answer is no text")
        self._shown, self._answer = set(rows), answer

    def _asked(self) -> Question:
        if self._question is None:
            raise EnvError("There is no question yet; call reset first.")
        return self._question


@functools.cache
def index() -> SearchIndex:
    """Return the search index over titles and texts, one for the process; nothing changes it."""
    entities = make_world().entities
    return SearchIndex.build((f"{entity.name}\n{entity.text}" for entity in entities.values()), list(entities))
