"""The theory of Kuhn poker: expected values, best responses and exploitability, all by enumeration.

A strategy maps information sets to the probability of betting there. An information set is the player's own card and
the moves so far, `p` a pass and `b` a bet:

- seat 1: `J`, `Q`, `K` at the start, and `Jpb`, `Qpb`, `Kpb` after its pass was answered by a bet;
- seat 2: `Jp`, `Qp`, `Kp` after a pass, and `Jb`, `Qb`, `Kb` after a bet.

Values are in chips. With probabilities that are fractions, all results are exact.

Sources: H. W. Kuhn, A Simplified Two-Person Poker, Contributions to the Theory of Games I, 1950 (the game, its value,
its equilibria); Zinkevich, Johanson, Bowling and Piccione, Regret Minimization in Games with Incomplete Information,
NeurIPS 2007 (best responses as the distance to an equilibrium).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import permutations, product

from agentgym_rft.errors import ConfigError

Number = float | Fraction
Strategy = Mapping[str, Number]

CARDS = ("J", "Q", "K")  # from low to high
DEALS = tuple(permutations(CARDS, 2))  # the card of seat 1, the card of seat 2; all equally likely
INFOSETS: Mapping[int, tuple[str, ...]] = {
    1: tuple(card + moves for moves in ("", "pb") for card in CARDS),
    2: tuple(card + moves for moves in ("p", "b") for card in CARDS),
}
ALL_INFOSETS = INFOSETS[1] + INFOSETS[2]
GAME_VALUE = Fraction(-1, 18)  # of seat 1, in chips


def chips(cards: tuple[str, str], moves: str) -> int:
    """Return the chips that seat 1 wins with these cards and moves; 0 while the game is not over."""
    stake = {"pp": 1, "bb": 2, "pbb": 2}.get(moves)
    if stake is None:
        return {"bp": 1, "pbp": -1}.get(moves, 0)
    return stake if CARDS.index(cards[0]) > CARDS.index(cards[1]) else -stake


def is_over(moves: str) -> bool:
    """Return whether a game with these moves has ended."""
    return moves in ("pp", "bp", "bb", "pbp", "pbb")


def expected_value(strategy_1: Strategy, strategy_2: Strategy) -> Number:
    """Return the mean chips that seat 1 wins; seat 2 wins the negative.

    Each strategy needs the six information sets of its seat. Raises `ConfigError` where one is missing, or is no
    probability.
    """
    check_strategy(strategy_1, 1)
    check_strategy(strategy_2, 2)
    return sum((_deal_value(cards, strategy_1, strategy_2) for cards in DEALS), Fraction(0)) * Fraction(1, len(DEALS))


def best_response_value(strategy: Strategy, seat: int) -> Number:
    """Return the mean chips of a best response in seat `seat` against `strategy` in the other seat.

    The responder knows its card, so the best of its four pure plays is found for each card by itself.
    Raises `ConfigError` for another seat than 1 or 2, or as `expected_value` does.
    """
    if seat not in INFOSETS:
        raise ConfigError(f"There is no seat {seat!r} in Kuhn poker; expected 1 or 2.")
    check_strategy(strategy, 3 - seat)
    total: Number = Fraction(0)
    for card in CARDS:
        first, second = (name for name in INFOSETS[seat] if name[0] == card)
        deals = [cards for cards in DEALS if cards[seat - 1] == card]
        plays = [{first: a, second: b} for a, b in product((Fraction(0), Fraction(1)), repeat=2)]
        total += max(sum((_seat_value(cards, play, strategy, seat) for cards in deals), Fraction(0)) for play in plays)
    return total * Fraction(1, len(DEALS))


def exploitability(strategy: Strategy) -> Number:
    """Return half of NashConv, in chips: what best responses in either seat win against the strategy, on average of
    the seats.

    It is 0 at an equilibrium and positive elsewhere. `strategy` needs all twelve information sets; for two policies,
    take those of seat 1 from one and those of seat 2 from the other.
    """
    return (best_response_value(strategy, 1) + best_response_value(strategy, 2)) * Fraction(1, 2)


def equilibrium(alpha: Number = Fraction(1, 3)) -> dict[str, Number]:
    """Return the Nash equilibrium in which seat 1 bluffs with the jack with probability `alpha`, from 0 to 1/3.

    Seat 2 has only one equilibrium strategy. Raises `ConfigError` for another `alpha`.
    """
    if not 0 <= alpha <= Fraction(1, 3):
        raise ConfigError(f"alpha is {alpha}; expected 0 to 1/3.")
    zero, third, one = Fraction(0), Fraction(1, 3), Fraction(1)
    first: Strategy = {"J": alpha, "Q": zero, "K": 3 * alpha, "Jpb": zero, "Qpb": alpha + third, "Kpb": one}
    second: Strategy = {"Jp": third, "Qp": zero, "Kp": one, "Jb": zero, "Qb": third, "Kb": one}
    return {**first, **second}


def check_strategy(strategy: Strategy, seat: int) -> None:
    """Raise `ConfigError` where an information set of the seat is missing or its value is no probability."""
    for name in INFOSETS[seat]:
        if name not in strategy:
            raise ConfigError(
                f"The strategy of seat {seat} lacks the information set '{name}'; it needs {', '.join(INFOSETS[seat])}."
            )
        if not 0 <= strategy[name] <= 1:
            raise ConfigError(f"The probability of betting at '{name}' is {strategy[name]}; expected 0 to 1.")


def _seat_value(cards: tuple[str, str], play: Strategy, other: Strategy, seat: int) -> Number:
    return _deal_value(cards, play, other) if seat == 1 else -_deal_value(cards, other, play)


def _deal_value(cards: tuple[str, str], strategy_1: Strategy, strategy_2: Strategy, moves: str = "") -> Number:
    """Return the mean chips that seat 1 wins with these cards after these moves."""
    if is_over(moves):
        return Fraction(chips(cards, moves))
    seat = 1 + len(moves) % 2
    bets = (strategy_1, strategy_2)[seat - 1][cards[seat - 1] + moves]
    value: Number = Fraction(0)
    for probability, move in ((bets, "b"), (1 - bets, "p")):
        if probability:
            value += probability * _deal_value(cards, strategy_1, strategy_2, moves + move)
    return value
