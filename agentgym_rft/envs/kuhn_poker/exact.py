"""Exact values of Kuhn poker for any policy, for its evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentgym_rft.envs.base import InformationSet, Strategy
from agentgym_rft.envs.kuhn_poker.theory import (
    ALL_INFOSETS,
    DEALS,
    best_response_value,
    equilibrium,
    expected_value,
    exploitability,
)

WORDS = {"b": "bet", "p": "pass"}


@dataclass(frozen=True, slots=True)
class KuhnTheory:
    """`Theory` of the game. The mappings say which replies mean `b` and `p` before and after a bet."""

    before_a_bet: Mapping[str, str]
    after_a_bet: Mapping[str, str]

    def information_sets(self) -> Sequence[InformationSet]:
        """Return the twelve, each by the first deal in which it comes up."""
        return [self._information_set(name) for name in ALL_INFOSETS]

    def of_script(self, kind: str) -> Strategy | None:
        """Return the strategy of `expert` and `random`; None for `oracle`, which sees both cards."""
        bets: Mapping[str, float] = {}
        if kind == "expert":
            bets = {name: float(bet) for name, bet in equilibrium().items()}
        elif kind == "random":
            bets = dict.fromkeys(ALL_INFOSETS, 0.5)
        return {name: {"bet": bet, "pass": 1.0 - bet} for name, bet in bets.items()} or None

    def analyse(self, strategy: Strategy) -> Mapping[str, float]:
        """In chips: `exploitability`; `value`, what seat 1 wins; `best_response_N`, what the best of seat N wins."""
        bets = {name: strategy[name]["bet"] for name in ALL_INFOSETS}
        return {
            "exploitability": float(exploitability(bets)),
            "value": float(expected_value(bets, bets)),
            "best_response_1": float(best_response_value(bets, 1)),
            "best_response_2": float(best_response_value(bets, 2)),
        }

    def _information_set(self, name: str) -> InformationSet:
        card, moves = name[0], name[1:]
        seat = len(moves) % 2
        first, second = next(cards for cards in DEALS if cards[seat] == card)
        meanings = self.after_a_bet if moves.endswith("b") else self.before_a_bet
        choices = {
            action: tuple(text for text, meant in meanings.items() if meant == move) for move, action in WORDS.items()
        }
        return InformationSet(name, f"deal-{first}{second}", tuple(WORDS[move] for move in moves), choices)
