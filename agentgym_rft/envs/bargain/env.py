"""Two agents divide items by words and offers; each knows only what the items are worth to itself."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.bargain.instances import TOTAL, Amounts, Instance, instance_of, rest_of, splits, worth
from agentgym_rft.envs.bargain.language import items_text, offer_text, opening_text, read_action, turns_text
from agentgym_rft.envs.bargain.optima import divisions, is_pareto_optimal, optima, values_of
from agentgym_rft.envs.bargain.players import Negotiator
from agentgym_rft.envs.multi_agent import TeamTaskEnv
from agentgym_rft.errors import ConfigError, EnvError

SEATS = ("agent_1", "agent_2")
GOAL = "agree on a division of the items that is worth as much as possible to you; without a deal you get nothing"


class BargainEnv(TeamTaskEnv):
    """Divide books, hats and balls between two agents, who take turns; all the items are worth 10 to each.

    Actions: `offer: 1 book 2 hat` is what the proposer takes, the rest goes to the other; `accept` takes the last offer
    if the other agent made it; `say: ...` sends a message of at most 200 characters; `quit` (or `reject`) ends without
    a deal. Any other text loses the turn and is invalid. Without a deal nobody gets anything.

    Reward (at the deal) and `score` are the own value / 10. `won` says that there was a deal, so both win or neither.
    Infos also have `joint`, the sum of both values over the best sum that any division reaches, and `pareto`, whether
    the deal is Pareto-optimal; 0 and False without a deal.

    Args:
        split: the tasks that `reset` draws from without a `task_id`.
        max_steps: the turns, both agents' together, after which there is no deal any more; the episode is truncated.
    Raises:
        DataError: the split is unknown.
        ConfigError: another argument is wrong.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "name": "bargain_v0", "is_parallelizable": False}
    snapshot_kind: ClassVar[str] = "bargain-1"

    def __init__(self, split: str = "train", max_steps: int = 10, render_mode: str | None = None) -> None:
        if max_steps < 2:
            raise ConfigError(f"max_steps is {max_steps}; expected at least 2, an offer and an answer.")
        super().__init__(SEATS, split, max_steps, {"max_steps": max_steps}, render_mode)
        self._instance: Instance | None = None
        self._offer: Amounts | None = None  # what the proposer takes
        self._proposer = ""
        self._deal: Amounts | None = None  # what agent_1 gets
        self._has_quit = False

    @property
    def instance(self) -> Instance:
        """The items and both agents' values. Raises `EnvError` before the first reset."""
        if self._instance is None:
            raise EnvError("There is no episode yet; call reset first.")
        return self._instance

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        return splits()[split]

    def task_content(self, task_id: str) -> bytes:
        return instance_of(task_id).content()

    def noop(self, agent: str) -> str:
        return "say: ok"

    def remaining(self) -> int | None:
        """Return 1 where the agent can accept, else 2; None where no deal is possible any more."""
        if self._deal is not None:
            return 0
        needed = 1 if self.standing_offer(self.agent_selection) is not None else 2
        return None if self._has_quit or self._num_steps + needed > self._max_steps else needed

    def expert(self, agent: str, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Negotiator:
        return Negotiator(rng, noise)

    def oracle(self, agent: str) -> Mediator:
        """Return knows both agents' values and works for the largest sum, see `optima`."""
        return Mediator(self, agent)

    def random_player(self, agent: str, rng: np.random.Generator) -> RandomBargainer:
        return RandomBargainer(self, agent, rng)

    def values(self, agent: str) -> Amounts:
        """Return the value of one item of each kind to an agent."""
        return self.instance.values[SEATS.index(agent)]

    def standing_offer(self, agent: str) -> Amounts | None:
        """Return what an agent gets if it accepts now; None if there is nothing to accept."""
        if self._offer is None or self._proposer == agent or self._deal is not None or self._has_quit:
            return None
        return rest_of(self.instance.counts, self._offer)

    @property
    def turns_left(self) -> int:
        """Turns until the limit, both agents' together."""
        return self._max_steps - self._num_steps

    def _begin(self, task_id: str) -> str:
        self._instance = instance_of(task_id)
        self._offer = self._deal = None
        self._proposer, self._has_quit = "", False
        for agent in SEATS:
            self.tell(agent, opening_text(self._instance.counts, self.values(agent)))
        self.tell(SEATS[0], f"You start. {turns_text(self._max_steps)}")
        return SEATS[0]

    def _act(self, agent: str, action: str) -> str | None:
        other = SEATS[1 - SEATS.index(agent)]
        move = read_action(action, self.instance.counts)
        if move.kind == "accept" and self.standing_offer(agent) is not None:
            self._close_deal(agent)
            return None
        if move.kind == "quit":
            self._has_quit = True
            self.tell(agent, "You quit. No deal.")
            self.tell(other, "They quit. No deal.")
            return None
        if move.kind == "say":
            self.tell(other, f"They say: {move.words}")
        elif move.kind == "offer":
            self._offer, self._proposer = move.items, agent
            given = rest_of(self.instance.counts, move.items)
            self.tell(other, offer_text(given, worth(self.values(other), given)))
        else:
            self.refuse(agent)
            self.tell(agent, move.words or "There is no offer to accept.")
            self.tell(other, "They lose a turn.")
        left = self.turns_left - 1  # this one is counted after it
        for name in SEATS if left == 0 else ():
            self.tell(name, "No turns left. No deal.")
        if left:
            self.tell(other, turns_text(left))
        return other

    def _close_deal(self, agent: str) -> None:
        taken = self.standing_offer(agent)
        assert taken is not None, "the caller has checked that there is an offer"
        counts = self.instance.counts
        self._deal = taken if agent == SEATS[0] else rest_of(counts, taken)
        for name, items in zip(SEATS, (self._deal, rest_of(counts, self._deal)), strict=True):
            value = worth(self.values(name), items)
            self.give(name, value / TOTAL)
            self.tell(name, f"Deal. You get {items_text(items)}, worth {value} to you.")

    def _facts(self, agent: str) -> dict[str, Any]:
        reached = (0, 0) if self._deal is None else values_of(self.instance, self._deal)
        joint = sum(reached) / optima(self.instance).max_joint
        is_optimal = self._deal is not None and is_pareto_optimal(self.instance, self._deal)
        facts: dict[str, Any] = {
            "won": self._deal is not None,
            "score": reached[SEATS.index(agent)] / TOTAL,
            "joint": joint,
            "pareto": is_optimal,
            "measures": {"joint": joint, "pareto": float(is_optimal), "deal": float(self._deal is not None)},
            "state_key": self._state_key(),
            "goal": GOAL,
        }
        if agent == self.agent_selection and self._deal is None and not self._has_quit and self.turns_left:
            can_accept = ["accept"] if self.standing_offer(agent) is not None else []
            facts["admissible_actions"] = [*can_accept, *_offers(self.instance.counts), self.noop(agent), "quit"]
        return facts

    def _state_key(self) -> str:
        """Return the game, the offer and what is still to be read: messages that were answered leave no trace."""
        unread = hashlib.blake2b(json.dumps(self._inbox).encode(), digest_size=8).hexdigest()
        state = f"{self.agent_selection} {self._num_steps} {self._offer} {self._proposer} {self._deal} {self._has_quit}"
        return f"{self.instance.task_id} {state} {unread}"

    def _saved(self) -> dict[str, Any]:
        return {"offer": self._offer, "proposer": self._proposer, "deal": self._deal, "has_quit": self._has_quit}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        possible = divisions(self.instance.counts)
        read: dict[str, Amounts | None] = {}
        for name in ("offer", "deal"):
            items = None if saved[name] is None else tuple(saved[name])
            if items is not None and items not in possible:
                raise ValueError(f"its {name} is {saved[name]!r}")
            read[name] = None if items is None else possible[possible.index(items)]
        if saved["proposer"] not in ("", *SEATS) or not isinstance(saved["has_quit"], bool):
            raise ValueError(f"its proposer is {saved['proposer']!r} and has_quit {saved['has_quit']!r}")
        self._offer, self._deal = read["offer"], read["deal"]
        self._proposer, self._has_quit = saved["proposer"], saved["has_quit"]


@functools.lru_cache(maxsize=64)
def _offers(counts: Amounts) -> tuple[str, ...]:
    return tuple(f"offer: {items_text(items)}" for items in divisions(counts))


class Mediator:
    """Offers the division with the largest sum, and accepts what is worth as much to its agent as that one is.

    In the last turn of all it accepts whatever is worth something.
    """

    def __init__(self, env: BargainEnv, agent: str) -> None:
        self._env, self._agent = env, agent

    def act(self, observation: str) -> str:
        """Return `accept` or an offer."""
        env, instance = self._env, self._env.instance
        best = optima(instance).best
        own = best if self._agent == SEATS[0] else rest_of(instance.counts, best)
        values, standing = env.values(self._agent), env.standing_offer(self._agent)
        if standing is not None:
            enough = worth(values, own) if env.turns_left > 1 else 1
            if worth(values, standing) >= enough:
                return "accept"
        return f"offer: {items_text(own)}"


class RandomBargainer:
    """Accepts an offer with probability 1/2; else it offers any division."""

    def __init__(self, env: BargainEnv, agent: str, rng: np.random.Generator) -> None:
        self._env, self._agent, self._rng = env, agent, rng

    def act(self, observation: str) -> str:
        """Return `accept` or an offer."""
        if self._env.standing_offer(self._agent) is not None and self._rng.random() < 0.5:
            return "accept"
        possible = divisions(self._env.instance.counts)
        return f"offer: {items_text(possible[int(self._rng.integers(len(possible)))])}"
