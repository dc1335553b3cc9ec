"""Whole runs on Ray: they learn what a run in one process learns, and leave nothing behind when they are cut off."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentgym_rft.config.run import Config
from agentgym_rft.rollouts.accounting import still_running
from agentgym_rft.store.trajectories import read_trajectories
from agentgym_rft.trainers.loop import train
from tests.rollouts.ray.playing import DEADLINE_S
from tests.trainers.test_loop import assert_equal_weights, switch_config


def on_ray(config: Config, **section: object) -> Config:
    data = config.model_dump()
    data["rollout"] |= {"workers": "ray", "ray": {"num_cpus": 0, **section}}
    return Config.model_validate(data)


def episodes(run_dir: Path, step: int) -> dict[str, Any]:
    path = run_dir / "trajectories" / f"step_{step:06d}.jsonl.zst"
    return {t.episode_id: [tuple(turn.action_ids) for turn in t.turns] for t in read_trajectories(path)}


def test_a_run_on_ray_ends_with_the_very_weights_of_a_run_in_one_process(cluster, switch_policy, tmp_path):
    def deterministic(name: str) -> Config:
        config = switch_config(switch_policy, tmp_path / name, steps=6)
        return config.model_copy(update={"policy": config.policy.model_copy(update={"deterministic": True})})

    local, remote = train(deterministic("here")), train(on_ray(deterministic("there")))
    for step in range(1, 7):
        assert episodes(local.run_dir, step) == episodes(remote.run_dir, step)
    assert [each["success"] for each in local.evaluations] == [each["success"] for each in remote.evaluations]
    assert_equal_weights(local.run_dir, remote.run_dir)


def processes_of(session: int) -> dict[int, str]:
    """The command lines of the processes in a session, by their ids: a driver's, and all of the Ray that it started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found[int(folder.name)] = (folder / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_driver_that_is_cut_off_has_the_right_exit_code_and_leaves_no_process(
    switch_policy, tmp_path, number, exit_code
):
    config = on_ray(switch_config(switch_policy, tmp_path / "run", steps=10_000))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    command = [sys.executable, "-m", "agentgym_rft.cli.main", "train", "--recipe", str(recipe)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + DEADLINE_S
    while not (metrics.is_file() and metrics.stat().st_size) and driver.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started = processes_of(driver.pid)
    assert sum("ray::RolloutWorker" in line for line in started.values()) == 2
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == exit_code, output.decode()
    of_ray = () if number == signal.SIGINT else ("Agent",)  # which see by themselves that their parent was killed
    assert still_running([pid for pid, line in started.items() if not any(w in line for w in of_ray)], 60) == []
