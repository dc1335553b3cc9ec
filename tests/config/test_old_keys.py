"""Configurations of earlier versions can still be read."""

from __future__ import annotations

import pytest
import yaml

from agentgym_rft.cli.settings import read_run_config
from agentgym_rft.config.leaves import leaves
from agentgym_rft.config.load import load_config, merge_overrides, validate_config
from agentgym_rft.config.old_keys import OLD_KEYS, renew
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError

OLD_RUN = merge_overrides(
    Config().model_dump(mode="json"),
    [(name.split("."), old.default) for name, old in OLD_KEYS.items()]
    + [(["algorithm", "units"], {"advantage": None, "ratio": "turn", "clip": None, "entropy": None})],
)


def test_no_old_key_is_a_key_and_every_new_key_is_one_with_its_default():
    known = {leaf.name: leaf for leaf in leaves(Config)}
    assert not set(OLD_KEYS) & set(known)
    moved = [old for old in OLD_KEYS.values() if old.new]
    assert moved
    assert all(known[old.new].default == old.new_default for old in moved)


def test_an_old_run_that_left_the_old_keys_at_their_defaults_is_read_without_a_note(tmp_path, caplog):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(OLD_RUN))
    config = validate_config(read_run_config(tmp_path))
    assert config.algorithm.units["ratio"] == "turn"
    assert config.model_copy(update={"algorithm": Config().algorithm}) == Config()
    assert not caplog.records


def test_an_old_run_that_set_an_old_key_is_read_with_one_note(tmp_path, caplog):
    old_run = merge_overrides(OLD_RUN, [(["rollout", "ray", "policy_gpus"], 0.5)])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old_run))
    assert validate_config(read_run_config(tmp_path)).rollout.ray.num_gpus == 0.5
    (record,) = caplog.records
    assert record.message.endswith("says: rollout.ray.policy_gpus.")


def test_a_configuration_of_today_is_read_without_a_note(tmp_path, caplog):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(Config().model_dump(mode="json")))
    assert validate_config(read_run_config(tmp_path)) == Config()
    assert not caplog.records


def test_a_recipe_with_an_old_key_is_read_under_the_new_one(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("rollout: {workers: ray, ray: {env_processes: 3, policy_replicas: 1, policy_gpus: 0.5}}\n")
    rollout = load_config(str(recipe)).rollout
    assert (rollout.processes.num_processes, rollout.ray.num_gpus) == (3, 0.5)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"trainer": {"betas": [0.9, 0.99]}},
            "The configuration key 'trainer.betas' is gone, and its value [0.9, 0.99] with it. AdamW has 0.9 and 0.95: "
            "leave it out.",
        ),
        (
            {"rollout": {"ray": {"policy_cpus": 4.0, "num_cpus": 2.0}}},
            "The configuration key 'rollout.ray.policy_cpus' is gone, and 'rollout.ray.num_cpus' says otherwise. "
            "Set rollout.ray.num_cpus.",
        ),
    ],
)
def test_a_value_that_no_key_gives_is_refused_in_one_sentence(tmp_path, section, message):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump(section))
    with pytest.raises(ConfigError) as error:
        load_config(str(recipe))
    assert str(error.value) == f"Recipe '{recipe}': {message}"


def test_an_old_key_that_agrees_with_its_new_one_is_dropped():
    data = {"rollout": {"ray": {"policy_cpus": 4.0, "num_cpus": 4.0}}}
    assert renew(data) == ({"rollout": {"ray": {"num_cpus": 4.0}}}, ["rollout.ray.policy_cpus"])
    assert data["rollout"]["ray"]["policy_cpus"] == 4.0  # what was given stays as it was


def test_sections_that_are_no_mappings_are_left_to_the_check_of_the_whole(tmp_path):
    assert renew({"trainer": 3}) == ({"trainer": 3}, [])
    with pytest.raises(ConfigError, match="'rollout' is 3: expected a mapping"):
        load_config(None, [(["rollout"], 3)])


def test_an_old_key_given_as_an_override_is_answered_with_what_stands_for_it():
    with pytest.raises(ConfigError, match=r"no configuration key 'rollout.ray.policy_gpus'. Set rollout.ray.num_gpus."):
        load_config(None, [(["rollout", "ray", "policy_gpus"], 1)])


def test_a_place_that_has_no_unit_is_named():
    with pytest.raises(ConfigError, match=r"^Configuration key 'algorithm.units.ratios' is 'ratios': input should be"):
        load_config(None, [(["algorithm", "units", "ratios"], "turn")])
