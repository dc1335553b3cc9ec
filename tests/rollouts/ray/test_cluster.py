from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from agentgym_rft.config.run import RaySection
from agentgym_rft.errors import ConfigError
from agentgym_rft.rollouts.ray.cluster import connect, probe


def test_an_address_at_which_nobody_listens_is_refused():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ConfigError, match=rf"No Ray cluster answers at '{address}' .* refused"):
        probe(address, 1)
    with pytest.raises(ConfigError, match=f"No Ray cluster answers at 'ray://{address}'"):
        probe(f"ray://{address}", 0.1)


def test_a_listener_that_is_not_ray_is_refused_when_the_time_is_over():
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(ConfigError, match=r"within 1 s: what listens there is not Ray"):
        probe(f"127.0.0.1:{silent.getsockname()[1]}", 1)


@pytest.mark.parametrize("address", ["somewhere", "host:port", ":6379", "ray://", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="is no Ray address"):
        probe(address, 1)


def test_too_few_cpus_and_a_missing_package_are_refused_before_anything_is_started():
    script = (
        "import sys\n"
        "from agentgym_rft.errors import ConfigError\n"
        "from agentgym_rft.rollouts.ray.cluster import connect\n"
        "from agentgym_rft.config.run import RaySection\n"
        "for section in (RaySection(num_workers=3, num_cpus=1000), RaySection()):\n"
        "    try:\n"
        "        connect(section)\n"
        "    except ConfigError as error:\n"
        "        print(error)\n"
        "    sys.modules['ray'] = None\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    cpus, missing = done.stdout.splitlines()
    assert "rollout.ray asks for 3000 CPUs (3 workers and 0 replicas of 1000)" in cpus
    assert "pip install 'agentgym-rft[ray]'" in missing


def test_a_connection_that_is_there_is_used_and_left_open(cluster):
    import ray

    connect(RaySection(address="127.0.0.1:1"))()
    assert ray.is_initialized()
