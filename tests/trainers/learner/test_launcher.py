"""Who leads a run, by what stands in the environment."""

from __future__ import annotations

import pytest

from agentgym_rft.config.run import ParallelSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.learner.launcher import is_launched, is_leading
from agentgym_rft.trainers.learner.processes import choose_strategy, local_device

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "LOCAL_RANK": "1"}


@pytest.fixture
def told(monkeypatch):
    """Sets the variables of a launcher, and no others."""

    def tell(**variables):
        for name in TORCHRUN:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return tell


@pytest.mark.parametrize("left_out", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_too_few_is_no_launcher_so_the_run_leads_alone(told, left_out):
    told(**{name: value for name, value in TORCHRUN.items() if name != left_out})
    assert not is_launched()
    assert is_leading()
    assert choose_strategy(ParallelSection()) == "none"
    assert local_device("cuda") == "cuda"
    with pytest.raises(ConfigError, match="needs several processes"):
        choose_strategy(ParallelSection(strategy="ddp"))


@pytest.mark.parametrize("lone", [{"RANK": "1"}, {"WORLD_SIZE": "many"}, {}])
def test_a_variable_alone_changes_nothing(told, lone):
    told(**lone)
    assert is_leading()
    assert choose_strategy(ParallelSection(strategy="none")) == "none"


def test_the_first_process_of_a_launcher_leads(told):
    told(**TORCHRUN)
    assert not is_leading()
    assert choose_strategy(ParallelSection()) == "ddp"
    assert local_device("cuda") == "cuda:1"
    told(**TORCHRUN | {"RANK": "0"})
    assert is_leading()
