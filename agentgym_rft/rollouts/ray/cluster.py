"""Connects to a Ray cluster, or starts Ray on this machine.

If the cluster does not answer in time, it raises an error.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from agentgym_rft.config.run import RaySection
from agentgym_rft.errors import ConfigError

_PROBE = """
import sys
import ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
except Exception as error:
    while error.__cause__ is not None:
        error = error.__cause__
    sys.exit((str(error).strip().splitlines() or [type(error).__name__])[-1])
"""
_RETRY_S = 0.5
CONNECT_S = 30.0  # in which an address must answer


def connect(section: RaySection) -> Callable[[], None]:
    """Connect to Ray. Returns a function that ends the connection, and Ray itself if it was started here.

    If this process is already connected, that connection is used and stays open.

    Raises:
        ConfigError: Ray is not installed, the address does not answer in time, or this machine has too few CPUs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to a server of Ray's makers
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "rollout.workers=ray needs Ray, which is not installed. Install it with: pip install 'agentgym-rft[ray]'"
        ) from error
    if ray.is_initialized():
        return lambda: None
    if section.address is None:
        _check_cpus(section)
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    else:
        probe(section.address, CONNECT_S)
        ray.init(address=section.address, log_to_driver=False, logging_level="ERROR")
    shutdown: Callable[[], None] = ray.shutdown
    return shutdown


def _check_cpus(section: RaySection) -> None:
    """Refuse to ask for more CPUs than this machine has: Ray would wait for them for ever."""
    wanted = (section.num_workers + section.policy_replicas) * section.num_cpus
    there = os.cpu_count() or 1
    if wanted > there:
        raise ConfigError(
            f"rollout.ray asks for {wanted:g} CPUs ({section.num_workers} workers and {section.policy_replicas} "
            f"replicas of {section.num_cpus:g}); this machine has {there}. Lower the "
            "numbers, for example rollout.ray.num_cpus=0.5, or give rollout.ray.address of a larger cluster."
        )


def probe(address: str, timeout_s: float) -> None:
    """Raise `ConfigError` if no cluster answers at an address.

    The attempt runs in a process of its own: Ray itself tries for minutes, and then ends the process it runs in.
    """
    deadline = time.monotonic() + timeout_s
    refused = (
        f"No Ray cluster answers at '{address}' (rollout.ray.address) within {timeout_s:g} s: {{}}. Start one with "
        "`ray start --head`, or leave the address out to run Ray on this machine."
    )
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"'{address}' is no Ray address. Write auto, HOST:PORT or ray://HOST:PORT.")
        try:
            _await_listener(host.strip("[]"), int(port), deadline)
        except (OSError, OverflowError) as error:
            raise ConfigError(refused.format(error)) from error
    command = [sys.executable, "-P", "-c", _PROBE, address]
    try:
        left = max(deadline - time.monotonic(), 0.1)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(refused.format("what listens there is not Ray, or is too busy")) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1].partition(". ")[0].rstrip(".") if lines else f"exit code {done.returncode}"
        raise ConfigError(refused.format(reason))


def _await_listener(host: str, port: int, deadline: float) -> None:
    """Wait until the address accepts connections, since a cluster may just be starting. Raises the last `OSError`."""
    while True:
        try:
            socket.create_connection((host, port), max(deadline - time.monotonic(), 0.1)).close()
            return
        except OSError:
            if time.monotonic() + _RETRY_S > deadline:
                raise
            time.sleep(_RETRY_S)
