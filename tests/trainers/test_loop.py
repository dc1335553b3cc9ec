from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import ConfigError, DataError, PolicyError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.rollouts.policies import policy_dir
from agentgym_rft.store.trajectories import read_trajectories
from agentgym_rft.trainers.loop import train
from tests.light_switch import weights_of


def switch_config(policy: Path, out: Path, *, fault: str = "", **trainer: object) -> Config:
    return validate_config(
        {
            "env": {"id": "tests.light_switch:LightSwitch", "options": {"fault": fault}},
            "policy": {"path": str(policy), "max_context": 64, "num_threads": 1, "device": "cpu"},
            "rollout": {"num_tasks": 8, "group_size": 4, "max_steps": 4},
            "trainer": {"steps": 4, "learning_rate": 1e-2, "warmup_steps": 0, **trainer},
            "eval": {"num_tasks": 20, "temperature": 1.0},
            "run": {"out": str(out), "checkpoint_every": 1},
        }
    )


def final_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return weights_of(max((run_dir / "checkpoints").glob("step-*")) / "model")


def assert_equal_weights(a: Path, b: Path) -> None:
    first, second = final_weights(a), final_weights(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_policy_learns_the_switch_and_the_run_directory_tells_it(switch_policy, tmp_path):
    result = train(switch_config(switch_policy, tmp_path / "run", steps=20))
    before, after = result.evaluations[0], result.evaluations[-1]
    assert after["success"] > before["success"] + 0.3
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert {"episode/success", "entropy/mean", "grad/norm", "kl/approx", "time_s", "eval/success"} <= set(rows[-1])
    assert max(row["drift/logprob_max"] for row in rows) < 1e-3
    played = list(read_trajectories(tmp_path / "run" / "trajectories" / "step_000001.jsonl.zst"))
    assert len(played) == 32
    assert (tmp_path / "run" / "config.yaml").is_file()


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(switch_policy, tmp_path):
    for name in ("a", "b"):
        train(switch_config(switch_policy, tmp_path / name))
    assert_equal_weights(tmp_path / "a", tmp_path / "b")
    other = switch_config(switch_policy, tmp_path / "c")
    train(other.model_copy(update={"run": other.run.model_copy(update={"seed": 1})}))
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "a", tmp_path / "c")


def test_a_run_killed_in_a_step_and_resumed_ends_with_the_weights_of_one_that_was_not(switch_policy, tmp_path):
    config = switch_config(switch_policy, tmp_path / "whole")
    train(config)
    killed = switch_config(switch_policy, tmp_path / "killed")
    script = (
        "import os, signal, sys\n"
        "from agentgym_rft.config.run import Config\n"
        "from agentgym_rft.trainers import loop\n"
        "from agentgym_rft.trainers.learner import group\n"
        "columns, count = group.columns, []\n"
        "def dying(*args):\n"
        "    count.append(1)\n"
        "    if len(count) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return columns(*args)\n"
        "group.columns = dying\n"
        "loop.train(Config.model_validate_json(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, killed.model_dump_json()], cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL
    assert [row["step"] for row in read_metrics(tmp_path / "killed" / "metrics.jsonl")] == [1, 2]
    result = train(killed, resume=tmp_path / "killed")
    assert result.num_steps == 4
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")
    whole, resumed = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed"))
    assert [row["episode/return"] for row in whole] == [row["episode/return"] for row in resumed]


@pytest.mark.parametrize("fault", ["reset", "step", "nan", "score"])
def test_broken_episodes_are_counted_and_never_trained_on(switch_policy, tmp_path, fault):
    result = train(switch_config(switch_policy, tmp_path / "run", fault=fault))
    rows = read_metrics(result.run_dir / "metrics.jsonl")
    assert sum(row["episode/errors"] for row in rows) > 0
    for row in rows:
        assert row["episode/errors"] == row.get("error/env_error", 0.0)
    played = [t for path in (result.run_dir / "trajectories").iterdir() for t in read_trajectories(path)]
    broken = [t for t in played if t.is_error]
    # every attempt and its one retry failed, and nothing else did
    assert {t.task_id for t in broken} == {t.task_id for t in played if int(t.task_id) % 3 == 0}
    assert all(not t.rewards and t.info["error"]["message"] for t in broken)
    valid = sum(not t.is_error for t in played)
    assert sum(row["episode/num"] for row in rows) == valid
    assert result.evaluations[-1]["num_errors"] == 7


def test_a_step_in_which_every_episode_broke_fails_the_run(switch_policy, tmp_path):
    config = switch_config(switch_policy, tmp_path / "run").model_dump()
    absent = config | {"env": {"id": "tests.trainers.test_loop:Absent"}}
    with pytest.raises(
        PolicyError, match="Every episode of the first evaluation ended with an error: OSError at turn 0"
    ):
        train(validate_config(absent))
    with pytest.raises(
        PolicyError, match="Every episode of step 1 ended with an error: OSError at turn 0: no such house"
    ):
        train(validate_config(absent | {"eval": {"num_tasks": 0}}))


def test_prompts_without_room_for_an_action_fail_the_run(switch_policy, tmp_path):
    config = switch_config(switch_policy, tmp_path / "run").model_dump()
    narrow = config | {"policy": config["policy"] | {"max_context": 24}}
    for evaluation, when, num in (({}, "the first evaluation", 17), ({"num_tasks": 0}, "step 1", 16)):
        with pytest.raises(
            ConfigError,
            match=f"{when} ended before its first action: the shortest prompt has {num} tokens and an action up to 16, "
            f"but max_context is 24. Set policy.max_context .* to at least {num + 16},",
        ):
            train(validate_config(narrow | {"eval": evaluation}))


class Absent(TextEnv):
    """An environment that cannot even start an episode."""

    def task_ids(self, split):
        return ["1"] if split == "train" else ["2"]

    def task_content(self, task_id):
        return task_id.encode()

    def reset(self, *, seed=None, options=None):
        raise OSError("no such house")


def test_two_runs_on_one_directory_are_refused(switch_policy, tmp_path):
    config = switch_config(switch_policy, tmp_path / "run", steps=1)
    train(config)
    with pytest.raises(ConfigError, match="holds a run already"):
        train(config)


def test_overlapping_splits_are_refused_by_content(switch_policy, tmp_path):
    config = switch_config(switch_policy, tmp_path / "run")
    overlapping = config.model_dump() | {"env": {"id": "tests.trainers.test_loop:Leaky"}}
    with pytest.raises(DataError, match="overlap"):
        train(validate_config(overlapping))


class Leaky(Absent):
    """Two splits that hold the same task under two names."""

    def task_content(self, task_id):
        return b"same"


def test_ctrl_c_finishes_the_step_and_saves_it(switch_policy, tmp_path):
    class Interrupting:
        def __getattr__(self, name):
            return lambda *args, **kwargs: None

        def step(self, step, metrics):
            if step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    result = train(switch_config(switch_policy, tmp_path / "run"), progress=Interrupting())
    assert result.is_interrupted
    assert result.num_steps == 2
    resumed = train(switch_config(switch_policy, tmp_path / "run"), resume=result.run_dir)
    assert not resumed.is_interrupted
    train(switch_config(switch_policy, tmp_path / "whole"))
    assert_equal_weights(tmp_path / "run", tmp_path / "whole")


def test_a_resumed_run_decays_its_weights_as_it_is_told_now(switch_policy, tmp_path):
    train(switch_config(switch_policy, tmp_path / "0.0", steps=1))
    shutil.copytree(tmp_path / "0.0", tmp_path / "9.0")
    for decay in (0.0, 9.0):
        out = tmp_path / str(decay)
        train(switch_config(switch_policy, out, steps=2, weight_decay=decay), resume=out)
    plain, decayed = (final_weights(tmp_path / name)["model.layers.0.mlp.up_proj.weight"] for name in ("0.0", "9.0"))
    assert decayed.norm() < 0.95 * plain.norm()


def test_groups_without_signal_are_replaced_when_asked(switch_policy, tmp_path):
    config = switch_config(switch_policy, tmp_path / "run", steps=1)
    data = config.model_dump()
    data["rollout"] |= {"group_size": 2, "max_resample": 2}
    train(validate_config(data))
    row = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert row["group/without_signal"] > 0
    assert row["group/num"] > 8


def test_the_resolved_configuration_of_a_run_loads_again(switch_policy, tmp_path):
    config = switch_config(switch_policy, tmp_path / "run", steps=1)
    train(config)
    import yaml

    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    expected = config.model_dump()
    expected["eval"]["split"] = "valid_unseen"  # the environment's last, where none was given
    expected["agent"]["date"] = stored["agent"]["date"]  # the day of the run
    assert validate_config(json.loads(json.dumps(stored))) == validate_config(expected)


def test_a_bfloat16_copy_samples_with_the_newest_weights_and_the_trained_ones_stay_float32(switch_policy, tmp_path):
    data = switch_config(switch_policy, tmp_path / "run", steps=12).model_dump()
    data["policy"]["dtype"] = "bfloat16"
    result = train(validate_config(data))
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.2
    drifts = [row["drift/logprob_mean"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert 0 < max(drifts) < 0.02
    assert all(weight.dtype is torch.float32 for weight in weights_of(policy_dir(str(tmp_path / "run"))).values())
