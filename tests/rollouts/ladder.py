"""A tiny environment that can be forked, and a scripted policy that plays, reflects and retries in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.config.run import ReflectSection
from agentgym_rft.core import Group
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.strategies import GroupPlan, reflect_retry
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.sft.model import train_tokenizer

ASK = "Reflect now."
CARD_DATA: dict[str, Any] = {
    "name": "plain",
    "system": "Climb.",
    "action": {"max_tokens": 16},
    "reflect": {"system": ASK, "max_tokens": 400},
}
CARD = parse_card(CARD_DATA)
TOKENIZER = train_tokenizer(["up", "down", "Rung 3 after 2 moves.", "Climb.", ASK] * 3, 300)
BAD_MEMBER = "g/1"


class Ladder(TextEnv):
    """The third rung wins. `up` climbs, `down` goes back, anything else is refused; the observation is all there is."""

    can_snapshot: ClassVar[bool] = True

    def __init__(self) -> None:
        self.rung = self.moves = 0
        self.is_invalid = False

    def task_ids(self, split: str) -> Sequence[str]:
        return ["0", "1"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.rung = self.moves = 0
        self.is_invalid = False
        return self.see(), self.info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.moves += 1
        self.is_invalid = action not in ("up", "down")
        if not self.is_invalid:
            self.rung = max(self.rung + (1 if action == "up" else -1), 0)
        won = self.rung == 3
        return self.see(), float(won), won, False, self.info()

    def see(self) -> str:
        return f"Rung {self.rung} after {self.moves} moves."

    def info(self) -> dict[str, Any]:
        won = self.rung == 3
        key = f"{self.rung}.{self.moves}"
        return {"won": won, "score": float(won), "state_key": key, "invalid_action": self.is_invalid}

    def remaining(self) -> int | None:
        return 3 - self.rung

    def snapshot(self) -> bytes:
        return json.dumps([self.rung, self.moves, self.is_invalid]).encode()

    def restore(self, snapshot: bytes) -> tuple[str, dict[str, Any]]:
        self.rung, self.moves, self.is_invalid = json.loads(snapshot)
        return self.see(), self.info()


class LadderWithoutSnapshots(Ladder):
    """The same, to be reached again by a replay only."""

    can_snapshot = False

    def snapshot(self) -> bytes:
        raise AssertionError("it cannot")


def reply(text: str) -> list[int]:
    return [*TOKENIZER.encode(text, add_special_tokens=False), TOKENIZER.eos_token_id]


def report(pivot: object = 1, **changes: object) -> str:
    """A report of failure as JSON, with fields replaced."""
    body = {
        "trajectory_summary": "Went down.",
        "root_cause_analysis": None,
        "trajectory_outcome": "failure",
        "improvement_suggestion": "Go up.",
        "retry_from_step": pivot,
    }
    return json.dumps(body | changes)


SUCCESS = report(None, trajectory_outcome="success", improvement_suggestion=None)


class Climber(ScriptedPolicy):
    """Plays `base` turn by turn, reflects with `words`, and in a guided retry plays `retry` from its fork on.

    The last reply of a script is repeated; `words` may be a function of the cache key, which names the episode.
    """

    def __init__(self, base: Sequence[str], words: str | Callable[[str], str], retry: Sequence[str] = ("up",)) -> None:
        super().__init__(lambda prompt: [])
        self._base, self._words, self._retry = base, words, retry
        self._turns: dict[str, int] = {}
        self.prompts: dict[str, list[str]] = {}
        self.released: list[str] = []

    async def sample(self, request: SampleRequest) -> Completion:
        key = request.cache_key
        turn = self._turns[key] = self._turns.get(key, -1) + 1
        self.prompts.setdefault(key, []).append(TOKENIZER.decode(list(request.prompt_ids)))
        if key.endswith("/reflection"):
            text = self._words if isinstance(self._words, str) else self._words(key)
        else:
            script = self._retry if key.endswith("/retry") else self._base
            text = script[min(turn, len(script) - 1)]
        ids = tuple(reply(text))[: request.max_new_tokens]
        return Completion(ids, (-0.5,) * len(ids), "stop", self.version)

    def release(self, cache_key: str) -> None:
        self.released.append(cache_key)


def workers(
    policy: ScriptedPolicy, make_env: Callable[[], TextEnv] = Ladder, *, concurrency: int = 8, max_context: int = 4000
) -> LocalWorkers:
    return LocalWorkers(make_env, CARD, TOKENIZER, policy, max_concurrency=concurrency, max_context=max_context)


def spec_for(pool: LocalWorkers, max_steps: int = 4) -> EpisodeSpec:
    return EpisodeSpec("0", "g", "g", 0, 1.0, max_steps, pool.max_context)


def play(
    pool: LocalWorkers, *, size: int = 2, max_steps: int = 4, limits: dict[str, Any] | None = None, **options: Any
) -> Group:
    """A group of `reflect_retry` with these options of `rollout.reflect` and limits of the episodes."""
    spec = replace(spec_for(pool, max_steps), **(limits or {}))
    plan = GroupPlan(spec, size, reflect=ReflectSection(**options))
    return pool.run(lambda: reflect_retry(plan, pool))


def text_of(turns: Sequence[Any]) -> str:
    """The row of turns as text."""
    return TOKENIZER.decode([i for turn in turns for i in (*turn.context_ids, *turn.action_ids)])
