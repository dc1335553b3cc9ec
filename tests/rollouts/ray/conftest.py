from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config

pytest.importorskip("ray")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# A node counts as lost after a second without an answer, not after half a minute.
_IMPATIENT = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 200,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A Ray cluster on this machine, with one CPU on its head, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": 150_000_000, "_system_config": _IMPATIENT, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def ray_config(policy: Path, env: str, *, options: dict[str, Any] | None = None, **section: object) -> Config:
    """A run on Ray that plays `env` with a tiny policy. Workers take no CPU of the cluster's unless they say so."""
    return validate_config(
        {
            "env": {"id": env, "options": options or {}},
            "policy": {"path": str(policy), "max_context": 64, "num_threads": 1, "device": "cpu"},
            "rollout": {
                "workers": "ray",
                "ray": {"num_cpus": 0, "episodes_per_worker": 4, **section},
            },
        }
    )
