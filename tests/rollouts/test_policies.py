import pytest
import torch

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.policy import PolicySection
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.policies import load_policy_model, policy_section, sampling_dtype


def test_every_agent_of_every_episode_has_a_place_in_the_cache():
    one = validate_config({"env": {"id": "tests.light_switch:LightSwitch"}, "policy": {"max_concurrency": 8}})
    two = validate_config({"env": {"id": "tests.team_switch:TeamSwitch"}, "policy": {"max_concurrency": 8}})
    assert policy_section(one) == one.policy
    assert policy_section(two).max_concurrency == 16
    assert policy_section(two, "other").path == "other"


@pytest.mark.parametrize("changes", [{"path": "vllm:none"}, {"path": "none", "sampling_threads": 2}])
def test_deterministic_sampling_is_refused_before_a_model_is_read(changes):
    with pytest.raises(ConfigError, match=r"policy\.deterministic is for the hf policy with one thread"):
        load_policy_model(PolicySection(deterministic=True, **changes))


def test_a_policy_is_loaded_in_the_type_that_the_section_names_unless_the_caller_says_otherwise(switch_policy):
    named = PolicySection(path=str(switch_policy), device="cpu", dtype="bfloat16")
    assert load_policy_model(named)[0].dtype is torch.bfloat16
    assert load_policy_model(named, torch.float32)[0].dtype is torch.float32
    assert load_policy_model(named.model_copy(update={"dtype": "auto"}))[0].dtype is torch.float32
    assert sampling_dtype(PolicySection(), torch.float32) is torch.float32


def test_a_type_for_the_weights_of_vllm_is_refused_with_the_key_that_it_reads():
    with pytest.raises(ConfigError, match=r"policy\.dtype is for the hf policy\. .*policy\.vllm\.dtype"):
        load_policy_model(PolicySection(path="vllm:none", dtype="bfloat16"))
