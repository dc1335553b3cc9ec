from __future__ import annotations

import pytest

from agentgym_rft.evaluation.crossplay import make_sides


@pytest.mark.parametrize(
    ("roles", "row"),
    [
        ({"a": "w", "b": "w", "c": "w"}, ("a",)),
        ({"planner": "planner", "w1": "w", "w2": "w"}, ("planner",)),
        ({"w1": "w", "w2": "w", "planner": "planner"}, ("w1", "w2")),
    ],
)
def test_the_row_has_the_first_agent_or_role_and_the_column_all_others(roles, row):
    sides = make_sides(roles)
    assert sides.row == row
    assert sides.policy_mapping("p", "q") == {agent: "p" if agent in row else "q" for agent in roles}


def test_one_agent_has_nobody_to_play_against():
    with pytest.raises(ValueError, match="at least two agents"):
        make_sides({"a": "w"})
