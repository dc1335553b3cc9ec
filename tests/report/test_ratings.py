from __future__ import annotations

import random
import sys

import pytest

from agentgym_rft.errors import ConfigError
from agentgym_rft.report.heatmap import heat_map
from agentgym_rft.report.ratings import Match, rate


def matches(first, second, outcomes):
    return [Match((n, 0), (first, second), scores) for n, scores in enumerate(outcomes)]


def test_who_wins_more_is_rated_higher():
    played = matches("a", "b", [(1, 0)] * 6 + [(0, 1)] * 2) + matches("b", "c", [(1, 0)] * 6 + [(0, 1)] * 2)
    ratings = rate(played)
    assert list(ratings) == ["a", "b", "c"]
    assert [r.num_matches for r in ratings.values()] == [8, 16, 8]
    assert all(r.ordinal == pytest.approx(r.mu - 3 * r.sigma) for r in ratings.values())


def test_ratings_do_not_depend_on_the_order_of_the_matches():
    played = matches("a", "b", [(1, 0), (0, 1), (0.5, 0.5), (1, 0)]) + matches("a", "c", [(1, 0), (0, 1)])
    shuffled = random.Random(1).sample(played, len(played))
    assert shuffled != played
    assert rate(shuffled) == rate(played)


def test_draws_leave_two_policies_equal():
    a, b = rate(matches("a", "b", [(0.5, 0.5)] * 5)).values()
    assert a.mu == pytest.approx(b.mu)
    assert a.sigma < 25 / 3


def test_without_openskill_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openskill.models", None)
    with pytest.raises(ConfigError, match=r"pip install 'agentgym-rft\[multi\]'"):
        rate(matches("a", "b", [(1, 0)]))


def test_a_heat_map_has_a_cell_for_every_pair():
    picture = heat_map("A & B", ["a", "b"], ["a", "b"], [[-1.0, 0.0], [1.0, None]], [[""] * 2, ["x", ""]], (-1, 1))
    assert picture.count('height="42"') == 4
    assert "A &amp; B" in picture
    for colour in ("#b2182b", "#f7f7f7", "#2166ac", "#e5e7eb"):
        assert f'fill="{colour}"' in picture
