"""Kuhn poker's values, best responses and exploitability against numbers worked by hand and by brute force."""

import math
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym_rft.envs.kuhn_poker.theory import (
    ALL_INFOSETS,
    CARDS,
    DEALS,
    GAME_VALUE,
    INFOSETS,
    best_response_value,
    chips,
    equilibrium,
    expected_value,
    exploitability,
    is_over,
)
from agentgym_rft.errors import ConfigError

THIRD = Fraction(1, 3)
PROBABILITIES = st.fractions(0, 1, max_denominator=12)


def always(probability):
    return dict.fromkeys(ALL_INFOSETS, Fraction(probability))


def value_by_formula(first, second):
    """The value of seat 1, written out for the five endings of a deal."""
    total = Fraction(0)
    for mine, theirs in product(CARDS, CARDS):
        if mine == theirs:
            continue
        sign = 1 if CARDS.index(mine) > CARDS.index(theirs) else -1
        opens, calls = first[mine], first[mine + "pb"]
        bets, sees = second[theirs + "p"], second[theirs + "b"]
        passed = (1 - bets) * sign + bets * (calls * 2 * sign - (1 - calls))
        total += (1 - opens) * passed + opens * ((1 - sees) + sees * 2 * sign)
    return total / 6


def best_of_all_pure(strategy, seat):
    """The best of all 64 pure strategies of a seat."""
    sign = 1 if seat == 1 else -1
    values = []
    for choices in product((Fraction(0), Fraction(1)), repeat=6):
        pure = dict(zip(INFOSETS[seat], choices, strict=True))
        values.append(sign * (value_by_formula(pure, strategy) if seat == 1 else value_by_formula(strategy, pure)))
    return max(values)


def test_the_five_endings_pay_what_the_rules_say():
    king_first, jack_first = ("K", "Q"), ("J", "Q")
    endings = {"pp": (1, -1), "bp": (1, 1), "bb": (2, -2), "pbp": (-1, -1), "pbb": (2, -2)}
    for moves, (with_king, with_jack) in endings.items():
        assert (chips(king_first, moves), chips(jack_first, moves)) == (with_king, with_jack)
        assert is_over(moves)
    assert [chips(king_first, moves) for moves in ("", "p", "b", "pb")] == [0, 0, 0, 0]
    assert not any(is_over(moves) for moves in ("", "p", "b", "pb"))
    assert len(ALL_INFOSETS) == len(set(ALL_INFOSETS)) == 12
    assert len(DEALS) == 6


@pytest.mark.parametrize("alpha", [Fraction(0), Fraction(1, 6), THIRD])
def test_an_equilibrium_has_the_value_of_the_game_and_cannot_be_exploited(alpha):
    strategy = equilibrium(alpha)
    assert expected_value(strategy, strategy) == GAME_VALUE == Fraction(-1, 18)
    assert best_response_value(strategy, 1) == Fraction(-1, 18)
    assert best_response_value(strategy, 2) == Fraction(1, 18)
    assert exploitability(strategy) == 0


def test_a_jack_that_bluffs_too_often_can_be_exploited():
    # Against a jack that bets 1/3, calling with the queen is as good as folding, so let seat 2 call. In the deals JQ
    # and JK, 1/6 each, the jack now bets 1/6 more often, and then loses 2 instead of 1: seat 2 gains 2/36.
    bluffing = {**equilibrium(), "J": Fraction(1, 2)}
    assert best_response_value(bluffing, 2) - Fraction(1, 18) == Fraction(1, 18)
    assert best_response_value(bluffing, 1) == Fraction(-1, 18)
    assert exploitability(bluffing) == Fraction(1, 36)


def test_always_betting_worked_by_hand():
    # Both bet 2 in every deal: fair. Against it, call with K (+2), fold J (-1); with Q both give the same if called
    # (one in two each way: 0) and -1 if folded, so call: (2 + 0 - 1) / 3.
    assert expected_value(always(1), always(1)) == 0
    assert best_response_value(always(1), 1) == best_response_value(always(1), 2) == THIRD
    assert exploitability(always(1)) == THIRD


def test_always_passing_worked_by_hand():
    # Whoever bets wins the ante of a player that always folds.
    assert expected_value(always(0), always(0)) == 0
    assert best_response_value(always(0), 1) == best_response_value(always(0), 2) == 1
    assert exploitability(always(0)) == 1


def test_the_uniform_strategy_worked_by_hand():
    # Seat 1, by card: J: bet (fold 1/2: +1, else -2) = -1/2, or pass and fold = -1. Q: bet: against J or K alike
    # 1/2 * 1 + 1/2 * (0) = 1/2; pass: 1/2 * 0 + 1/2 * (call: 0) = 0. K: bet 1/2 * 1 + 1/2 * 2 = 3/2; pass and call the
    # same. (-1/2 + 1/2 + 3/2) / 3 = 1/2.
    # Seat 2: after a bet J folds -1, Q calls 0, K calls 2; after a pass J bets (fold 1/2) -1/2, Q bets 1/2, K bets 3/2.
    # (-1 + 0 + 2 - 1/2 + 1/2 + 3/2) / 6 = 5/12.
    half = Fraction(1, 2)
    assert best_response_value(always(half), 1) == Fraction(1, 2)
    assert best_response_value(always(half), 2) == Fraction(5, 12)
    assert exploitability(always(half)) == Fraction(11, 24)
    assert exploitability(dict.fromkeys(ALL_INFOSETS, 0.5)) == pytest.approx(11 / 24, abs=1e-12)


@given(st.lists(PROBABILITIES, min_size=12, max_size=12))
@settings(max_examples=15, deadline=None)
def test_values_equal_those_of_brute_force_over_all_pure_strategies(probabilities):
    strategy = dict(zip(ALL_INFOSETS, probabilities, strict=True))
    assert expected_value(strategy, strategy) == value_by_formula(strategy, strategy)
    for seat in (1, 2):
        assert best_response_value(strategy, seat) == best_of_all_pure(strategy, seat)
    assert exploitability(strategy) >= 0


def test_what_is_no_strategy_is_refused():
    incomplete = {name: 0.5 for name in ALL_INFOSETS if name != "Qpb"}
    with pytest.raises(ConfigError, match="'Qpb'"):
        exploitability(incomplete)
    assert best_response_value(incomplete, 1) == best_response_value(always(Fraction(1, 2)), 1)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match=r"'Kb'.*expected 0 to 1"):
            expected_value(always(0), {**always(0), "Kb": wrong})
    with pytest.raises(ConfigError, match="seat 3"):
        best_response_value(always(0), 3)
    with pytest.raises(ConfigError, match="1/3"):
        equilibrium(0.4)
