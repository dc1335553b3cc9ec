import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.policy import PolicySection
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.policies import load_policy_model, policy_section


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
