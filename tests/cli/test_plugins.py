"""A package that is installed beside this one: the command line knows what it adds, by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry.packages import install

ROOT = Path(__file__).parents[2]
SOURCE = """
from dataclasses import replace

from agentgym_rft import register_env
from agentgym_rft.rollouts.strategies import plain
from agentgym_rft.trainers.algorithms import clipped_policy_gradient, register_algorithm
from agentgym_rft.trainers.algorithms.advantages import group_advantage, group_mean
from tests.light_switch import LightSwitch


@register_env("plugin/Lamp-v0")
class Lamp(LightSwitch):
    pass


@register_algorithm("plain_mean")
def plain_mean(section, options):
    return clipped_policy_gradient(section, group_advantage(group_mean))


def warm(algorithm, options, unit):
    return replace(algorithm, temperature=1.5)


def nothing_won(options):
    return lambda group: None if any(trajectory.won for trajectory in group.trajectories) else group


async def one_turn(plan, workers):
    return await plain(replace(plan, base=replace(plan.base, max_steps=1)), workers)
"""
POINTS = {
    "agentgym_rft.envs": {"plugin/Lamp-v0": "plugin:Lamp"},
    "agentgym_rft.algorithms": {"plain_mean": "plugin:plain_mean"},
    "agentgym_rft.controls": {"warm": "plugin:warm"},
    "agentgym_rft.operators": {"nothing_won": "plugin:nothing_won"},
    "agentgym_rft.strategies": {"one_turn": "plugin:one_turn"},
}
TRAIN = ("train", "--env", "lamp", "--algorithm.name=plain_mean", "--algorithm.controls=[warm]")
SMALL = (
    "--rollout.num_tasks=2",
    "--rollout.group_size=2",
    "--eval.num_tasks=0",
    "--policy.device=cpu",
    "--policy.max_context=64",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, POINTS, SOURCE)
    return folder


def agentgym(site, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    command = [sys.executable, "-m", "agentgym_rft", *map(str, words)]
    return subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True)


def test_a_run_uses_all_that_an_installed_package_adds(site, switch_policy):
    more = ["--rollout.operators=[nothing_won]", "--rollout.strategy=one_turn", "--policy", switch_policy]
    done = agentgym(site, *TRAIN, *SMALL, *more, "--steps", "1", "--out", "run")
    assert done.returncode == 0, done.stderr
    (line,) = (site / "run" / "metrics.jsonl").read_text().splitlines()
    metrics = json.loads(line)
    assert metrics["episode/turns"] == 1
    assert metrics["operators/dropped_nothing_won"] == 0
    assert "id: plugin/Lamp-v0" in (site / "run" / "config.yaml").read_text()
