"""What looks at more than one section of a configuration is refused before a model is loaded."""

from __future__ import annotations

import pytest

from agentgym_rft.config.load import load_sft_config, validate_config
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.checks import check_config, check_exploration, check_sft
from agentgym_rft.trainers.learner.processes import ALONE, Ranks
from agentgym_rft.trainers.run import build

SWITCH, TEAM = "tests.light_switch:LightSwitch", "tests.team_switch:TeamSwitch"
SHARDED = Ranks(size=2, strategy="fsdp2")


def check(sections, ranks=ALONE):
    config = validate_config({"env": {"id": SWITCH}} | sections)
    check_config(config, build_algorithm(config.algorithm), ranks)


@pytest.mark.parametrize(
    ("sections", "ranks", "message"),
    [
        ({"rollout": {"group_size": 1}}, ALONE, "of at least 2, not 1"),
        ({"eval": {"every": 3}, "trainer": {"sync_interval": 2}}, ALONE, "a multiple of trainer.sync_interval=2"),
        ({"rollout": {"overprovision": 1}, "trainer": {"mode": "async"}}, ALONE, "is for trainer.mode=sync"),
        ({"store": {"replay_share": 1}}, ALONE, "say which with store.path"),
        ({"rollout": {"experts": {"num": 1}}}, ALONE, "'grpo' does not"),
        (
            {"env": {"id": TEAM}, "algorithm": {"name": "mix"}, "rollout": {"experts": {"num": 1}}},
            ALONE,
            "rollout.experts.num is for environments with one agent",
        ),
        ({"env": {"id": TEAM}, "algorithm": {"name": "dagger"}}, ALONE, "'dagger' is for environments with one agent"),
        ({"env": {"id": TEAM}, "team": {"seats": {"switcher": {"policy": "random"}}}}, ALONE, "No seat is trained"),
        ({"team": {"weights": "separate"}}, ALONE, "team.weights=separate is for several agents"),
        ({"team": {"pool": {"share": 1}}}, ALONE, "with fewer than two trained seats"),
        ({"rollout": {"strategy": "counterfactual"}}, ALONE, "has no action that does nothing"),
        ({"trainer": {"entropy_probe": 8}}, SHARDED, "write trainer.parallel.strategy=ddp"),
    ],
)
def test_settings_of_a_run_that_do_not_go_together_are_refused(sections, ranks, message):
    with pytest.raises(ConfigError, match=message):
        check(sections, ranks)


def test_settings_that_go_together_are_not():
    check({})
    check({"trainer": {"entropy_probe": 8}})
    check({"env": {"id": TEAM}, "team": {"weights": "separate"}})
    check({"algorithm": {"name": "mix"}, "rollout": {"experts": {"num": 1}}})


def test_a_run_is_checked_before_its_policy_is_looked_for(tmp_path):
    sections = {"env": {"id": SWITCH}, "policy": {"path": "none"}, "store": {"replay_share": 1}}
    with pytest.raises(ConfigError, match=r"say which with store\.path"):
        build(validate_config(sections), tmp_path)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, "name a file with --store"),
        ({"store": {"path": "s.db"}, "rollout": {"strategy": "counterfactual"}}, "has no action that does nothing"),
    ],
)
def test_settings_of_an_exploration_that_do_not_go_together_are_refused(sections, message):
    with pytest.raises(ConfigError, match=message):
        check_exploration(validate_config({"env": {"id": SWITCH}} | sections))


def test_reports_need_a_policy_that_plays_and_one_agent():
    shares = (["sft"], {"guided_share": 0.1})
    with pytest.raises(ConfigError, match="need a policy that plays: set init"):
        check_sft(load_sft_config(None, [shares]))
    with pytest.raises(ConfigError, match="has several agents: reports and guided retries are of one"):
        check_sft(load_sft_config(None, [shares, (["init"], "seed"), (["env", "id"], TEAM)]))
    check_sft(load_sft_config(None, [shares, (["init"], "seed"), (["env", "id"], SWITCH)]))
    check_sft(load_sft_config(None, [(["env", "id"], TEAM)]))
