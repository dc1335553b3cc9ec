"""The exact strategy of a policy in Kuhn poker, against theory and against what it samples."""

from __future__ import annotations

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.envs.making import seats_of
from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate
from agentgym_rft.evaluation.team import EvaluationPolicies
from agentgym_rft.report.intervals import wilson
from tests.kuhn_policy import MAX_CONTEXT, make_kuhn_policy

KUHN = "agentgym/KuhnPoker-v0"
DEALS = ("deal-JQ", "deal-JK", "deal-QJ", "deal-QK", "deal-KJ", "deal-KQ")


def open_policies(**agent):
    place = {"max_context": MAX_CONTEXT, "device": "cpu", "num_threads": 1}
    config = validate_config({"env": {"id": KUHN}, "policy": place, "agent": agent})
    return EvaluationPolicies(config, seats_of(KUHN))


def exact(first, second, temperature=1.0, **agent):
    """What the theory says about two policies."""
    policies = open_policies(**agent)
    try:
        return policies.exact(policies.agents({"player_1": first, "player_2": second}), temperature).get("exact")
    finally:
        policies.close()


@pytest.fixture(scope="module")
def always_bets(tmp_path_factory):
    return str(make_kuhn_policy(tmp_path_factory.mktemp("bets") / "model", 1.0, steps=60))


@pytest.fixture(scope="module")
def mixes(tmp_path_factory):
    return str(make_kuhn_policy(tmp_path_factory.mktemp("mixes") / "model", 0.3))


def test_the_scripts_have_the_exploitability_of_their_strategies():
    assert exact("expert", "expert")["values"]["exploitability"] == pytest.approx(0.0, abs=1e-12)
    assert exact("random", "random")["values"]["exploitability"] == pytest.approx(11 / 24)
    assert exact("expert", "random")["values"]["best_response_2"] == pytest.approx(1 / 18)
    assert exact("oracle", "random") is None


def test_a_policy_that_always_bets_is_as_exploitable_as_theory_says(always_bets):
    found = exact(always_bets, always_bets)
    # Against a certain bet, fold the jack and call with the king; the queen is indifferent. A card in turn is worth
    # -1, 0, 2 to the caller: 1/3 in seat 2. In seat 1 the caller may pass and call as well, so 1/3, too.
    assert found["values"]["exploitability"] == pytest.approx(1 / 3, abs=0.02)
    assert all(choice["bet"] > 0.97 for choice in found["strategy"].values())
    assert found["uncounted"] < 0.03


def test_sampled_frequencies_agree_with_the_scored_probabilities(mixes):
    strategy = exact(mixes, "random")["strategy"]
    policies = open_policies()
    workers = policies.workers(policies.agents({"player_1": mixes, "player_2": "random"}))
    played = evaluate(workers, EvaluationPlan(DEALS, 1.0, 3, 3, samples=60))
    workers.close()
    for card in "JQK":
        first = [t.turns[0].info["action"] for t in played if t.task_id[5] == card]
        assert len(first) == 120
        low, high = wilson(first.count("bet"), len(first), confidence=0.999)
        assert low < strategy[card]["bet"] < high
        assert 0.1 < strategy[card]["bet"] < 0.6


def test_greedy_play_is_a_pure_strategy(mixes):
    found = exact(mixes, mixes, temperature=0.0)
    assert {bet for choice in found["strategy"].values() for bet in choice.values()} <= {0.0, 1.0}
    assert all(choice == {"bet": 0.0, "pass": 1.0} for choice in found["strategy"].values())


def test_a_card_with_more_than_the_action_is_left_out_with_the_reason(mixes):
    assert "replies that are the action alone; the card 'think'" in exact(mixes, mixes, card="think")["left_out"]
