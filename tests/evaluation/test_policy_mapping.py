from __future__ import annotations

import pytest

from agentgym_rft.config.team import SeatSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.evaluation.policy_mapping import policy_for, policy_mapping

ROLES = {"planner": "planner", "w1": "worker", "w2": "worker"}


def test_a_policy_is_named_for_an_agent_or_a_role_and_the_rest_have_the_common_one():
    assert policy_mapping(ROLES, ["w2=random"], "seed", {}) == {"planner": "seed", "w1": "seed", "w2": "random"}
    assert policy_mapping(ROLES, ["worker=random"], "seed", {}) == {"planner": "seed", "w1": "random", "w2": "random"}
    assert policy_mapping({}, [], "seed", {}) == {}


def test_the_configured_policy_of_an_agent_stays_unless_another_is_named():
    sections = {"worker": SeatSection(policy="oracle")}
    assert policy_mapping(ROLES, [], "seed", sections) == {"planner": "seed", "w1": "oracle", "w2": "oracle"}
    assert policy_mapping(ROLES, ["w1=random"], "seed", sections)["w1"] == "random"


@pytest.mark.parametrize(
    ("roles", "given", "rest", "sentence"),
    [
        (ROLES, ["w1"], "seed", "--seat is 'w1'; expected AGENT=POLICY or ROLE=POLICY."),
        (ROLES, ["w1=seed", "worker=random"], "seed", "--seat gives 'w1' both 'seed' and 'random'"),
        (ROLES, ["w3=seed"], "seed", "There is no seat 'w3'"),
        (ROLES, ["worker=seed"], None, "The seat 'planner' has no policy"),
        ({}, ["w1=seed"], "seed", "This environment has one agent"),
    ],
)
def test_an_agent_that_is_not_there_or_has_two_policies_or_none_is_refused(roles, given, rest, sentence):
    with pytest.raises(ConfigError) as refused:
        policy_mapping(roles, given, rest, {})
    assert sentence in str(refused.value)


def test_a_name_that_is_no_run_is_a_policy_as_it_stands(tmp_path):
    assert policy_for(str(tmp_path), "worker") == str(tmp_path)
    assert policy_for("random", "worker") == "random"
