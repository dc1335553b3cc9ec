"""Kuhn poker in text: two players, three cards, one bet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.kuhn_poker.exact import KuhnTheory
from agentgym_rft.envs.kuhn_poker.players import MindReader, StrategyPlayer
from agentgym_rft.envs.kuhn_poker.theory import ALL_INFOSETS, DEALS, chips, equilibrium, is_over
from agentgym_rft.envs.multi_agent import TeamTaskEnv
from agentgym_rft.errors import DataError

SEATS = ("player_1", "player_2")
CARD_NAMES = {"J": "jack", "Q": "queen", "K": "king"}
GOAL = (
    "win chips: each player pays 1 chip and may bet 1 more; the higher card wins (king, queen, jack); "
    "who passes after a bet gives up"
)
_ASK = "Say bet or pass."
_MAX_TURNS = 3
_BEFORE_A_BET = {"bet": "b", "pass": "p", "check": "p"}
_AFTER_A_BET = {"bet": "b", "pass": "p", "call": "b", "fold": "p"}


class KuhnPokerEnv(TeamTaskEnv):
    """A game of Kuhn poker: a chip each in the pot, one card each of jack, queen and king, one bet of a chip.

    The actions are `bet` and `pass`; after a bet they call and fold, and may be called so; before one, `check` is
    `pass`. Any other text counts as `pass` and is invalid: a policy's strategy is its probability of saying `bet` (or
    `call` after a bet). The tasks are the six deals.

    Each player's reward is its chips / 2, in [-1, 1] and zero-sum; its score is (chips + 2) / 4, so 0.5 until the end;
    `won` is `chips > 0`, so that never both win. The info of the player whose turn it is has `infoset`.

    Args:
        split: there is only `train`, as the six deals are the whole game.
    Raises:
        DataError: the split is unknown.
        ConfigError: the render mode is unknown.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["ansi"],
        "name": "kuhn_poker_v0",
        "is_parallelizable": False,
    }
    splits: ClassVar[tuple[str, ...]] = ("train",)
    snapshot_kind: ClassVar[str] = "kuhn-poker-1"

    def __init__(self, split: str = "train", render_mode: str | None = None) -> None:
        super().__init__(SEATS, split, _MAX_TURNS, {}, render_mode)
        self._cards = DEALS[0]
        self._moves = ""

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        return tuple(_TASKS)

    def task_content(self, task_id: str) -> bytes:
        return "".join(_deal(task_id)).encode()

    def noop(self, agent: str) -> str:
        return "pass"

    def expert(self, agent: str, observation: str, rng: np.random.Generator, noise: float = 0.0) -> StrategyPlayer:
        """Return the equilibrium with alpha = 1/3; at rate `noise` it bets or passes with equal probability."""
        strategy = {name: float(bets) * (1 - noise) + 0.5 * noise for name, bets in equilibrium().items()}
        return StrategyPlayer(_seat(agent), strategy, rng)

    def oracle(self, agent: str) -> MindReader:
        """Return the best play if both saw both cards: bet with the higher card, else pass.

        Against a given opponent something else may win more, such as a bluff.
        """
        return MindReader(chips(self._own_first(agent), "pp") > 0)

    def random_player(self, agent: str, rng: np.random.Generator) -> StrategyPlayer:
        return StrategyPlayer(_seat(agent), dict.fromkeys(ALL_INFOSETS, 0.5), rng)

    def theory(self) -> KuhnTheory:
        return KuhnTheory(_BEFORE_A_BET, _AFTER_A_BET)

    def _begin(self, task_id: str) -> str:
        self._cards, self._moves = _deal(task_id), ""
        first, second = (f"Your card is {CARD_NAMES[card]}." for card in self._cards)
        self.tell(SEATS[0], f"{first} You act first. {_ASK}")
        self.tell(SEATS[1], f"{second} You act second.")
        return SEATS[0]

    def _act(self, agent: str, action: str) -> str | None:
        move = read_move(action, is_facing_bet=self._moves.endswith("b"))
        if move is None:
            self.refuse(agent)
        self._moves += move or "p"
        other = SEATS[SEATS.index(agent) - 1]
        did = "The other player bets." if self._moves.endswith("b") else "The other player passes."
        if not is_over(self._moves):
            again = f"Your card is {CARD_NAMES[self._own_first(other)[0]]}. " if other == SEATS[0] else ""
            self.tell(other, f"{again}{did} {_ASK}")
            return other
        for name in SEATS:
            self.give(name, self._chips(name) / 2)
            self.tell(name, self._ending(name))
        return None

    def _facts(self, agent: str) -> dict[str, Any]:
        acting = "" if is_over(self._moves) else SEATS[len(self._moves) % 2]
        facts: dict[str, Any] = {
            "won": self._chips(agent) > 0,
            "score": (self._chips(agent) + 2) / 4,
            "state_key": f"{''.join(self._cards)} {self._moves or '-'} {acting}",
            "goal": GOAL,
        }
        if agent == acting:
            facts["admissible_actions"] = ["bet", "pass"]
            facts["infoset"] = self._cards[SEATS.index(agent)] + self._moves
        return facts

    def _saved(self) -> dict[str, Any]:
        return {"moves": self._moves}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        if saved["moves"] not in ("", "p", "b", "pb", "pp", "bp", "bb", "pbp", "pbb"):
            raise ValueError(f"its moves are {saved['moves']!r}")
        self._moves = saved["moves"]

    def _chips(self, agent: str) -> int:
        """Return the chips that an agent has won; 0 while the game goes on."""
        won = chips(self._cards, self._moves)
        return won if agent == SEATS[0] else -won

    def _own_first(self, agent: str) -> tuple[str, str]:
        first, second = self._cards
        return (first, second) if agent == SEATS[0] else (second, first)

    def _ending(self, agent: str) -> str:
        """Return the outcome as an agent is told it: both cards at a showdown, none after a fold."""
        own, other = self._own_first(agent)
        won = self._chips(agent)
        if self._moves in ("bp", "pbp"):
            happened = "The other player passes." if won > 0 else "You pass."
        else:
            happened = f"You have the {CARD_NAMES[own]}, the other player has the {CARD_NAMES[other]}."
        return f"{happened} You {'win' if won > 0 else 'lose'} {abs(won)} chip{'s' if abs(won) > 1 else ''}."


def read_move(text: str, is_facing_bet: bool) -> str | None:
    """Return `b` or `p` for a text that is an action of this game, None for any other, which counts as `p`."""
    words = _AFTER_A_BET if is_facing_bet else _BEFORE_A_BET
    return words.get(text.strip().rstrip(".!").rstrip().lower())


_TASKS = {f"deal-{first}{second}": (first, second) for first, second in DEALS}


def _deal(task_id: str) -> tuple[str, str]:
    if task_id not in _TASKS:
        raise DataError(f"There is no task '{task_id}'; expected one of {', '.join(_TASKS)}.")
    return _TASKS[task_id]


def _seat(agent: str) -> int:
    return SEATS.index(agent) + 1
