"""Weights and episodes when Ray's object store has no room for them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.rollouts.make import open_workers
from tests.rollouts.ray.conftest import ray_config
from tests.rollouts.ray.playing import DEADLINE_S, audit, play, specs

SWITCH = "tests.light_switch:LightSwitch"

# Ray with a small store, on a disk that it takes for full: nothing can be spilled.
DRIVER = """
import sys
from pathlib import Path
import numpy as np
import ray
import torch
from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.errors import WorkersError
from agentgym_rft.rollouts.make import open_workers
from tests.rollouts.ray.conftest import ray_config
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False,
         logging_level="ERROR", _system_config={"local_fs_capacity_threshold": 1e-6})
policy = Path(sys.argv[1])
workers = open_workers(ray_config(policy, "tests.light_switch:LightSwitch", num_workers=1))
held = ray.put(np.zeros(70_000_000, np.uint8))
weights = {**load_model(policy, device="cpu")[0].state_dict(), "more": torch.zeros(5_000_000)}
try:
    workers.run(lambda: workers.load(weights, 1))
except WorkersError as error:
    print(error)
workers.close()
"""


def test_a_full_object_store_spills_to_disk_and_the_run_goes_on(cluster, switch_policy):
    import ray

    workers = open_workers(ray_config(switch_policy, SWITCH, num_workers=1))
    held = [ray.put(np.zeros(100_000_000, np.uint8)) for _ in range(2)]  # in a store of 150 MB
    weights = load_model(switch_policy, device="cpu", dtype=torch.float32)[0].state_dict()
    workers.run(lambda: workers.load(weights, 4))
    wanted = specs(workers, range(6))
    played = play(workers, wanted)
    assert {turn.policy_version for t in played for turn in t.turns} == {4}
    assert audit(workers, wanted, played) == {}
    assert sum(ray.get(each).sum() for each in held) == 0
    workers.close()


@pytest.mark.slow
def test_a_full_object_store_on_a_full_disk_is_said_at_once(switch_policy):
    command = [sys.executable, "-c", DRIVER, str(switch_policy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert "Ray's object store is full, and so is the disk that it spills to" in done.stdout, done.stderr
    assert done.returncode == 0
