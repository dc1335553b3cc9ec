"""Whole commands on a tiny model: train, resume, eval, view."""

import json
import signal

import pytest
import yaml

from agentgym_rft.cli import main as cli
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.store.trajectories import read_trajectories
from tests.envs.counter_env import CounterEnv

COUNTER = "tests.envs.counter_env:CounterEnv"
QUICK = [
    "--env.options.max_steps=4",
    "--rollout.num_tasks=2",
    "--rollout.group_size=2",
    "--eval.num_tasks=2",
    "--policy.device=cpu",
    "--policy.num_threads=1",
    "--run.checkpoint_every=1",
]


class PressesCtrlC(CounterEnv):
    """A person loses patience during the first training episode."""

    number = signal.SIGINT
    has_pressed = False

    def step(self, action):
        if self.task_id.startswith("train") and not type(self).has_pressed:
            type(self).has_pressed = True
            signal.raise_signal(self.number)
        return super().step(action)


class GetsSigterm(PressesCtrlC):
    """A scheduler takes the machine back."""

    number = signal.SIGTERM
    has_pressed = False


@pytest.fixture(scope="module")
def run_dir(model_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    args = ["train", "--env", COUNTER, "--policy", str(model_dir), "--steps", "2", "--out", str(path), *QUICK]
    assert cli.run(args) == 0
    return path


def test_a_run_directory_holds_everything(run_dir):
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["env"] == {"id": COUNTER, "split": "train", "options": {"max_steps": 4}}
    assert [row["step"] for row in read_metrics(run_dir / "metrics.jsonl")] == [1, 2]
    assert len(list(read_trajectories(run_dir / "trajectories"))) == 8
    assert (run_dir / "checkpoints").is_dir()
    assert "<svg" in (run_dir / "report.html").read_text()


def test_a_run_goes_on_where_it_stopped(run_dir, tmp_path, capsys):
    assert cli.run(["train", "--resume", str(run_dir), "--steps", "3"]) == 0
    assert [row["step"] for row in read_metrics(run_dir / "metrics.jsonl")] == [1, 2, 3]
    out = capsys.readouterr().out
    assert "steps 3 to 3" in out
    assert f"run {run_dir}" in out


def test_a_second_run_does_not_write_into_the_first(run_dir, model_dir, capsys):
    assert cli.run(["train", "--env", COUNTER, "--policy", str(model_dir), "--out", str(run_dir), *QUICK]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_eval_of_a_run_writes_the_result_and_a_table(run_dir, tmp_path, capsys):
    out = tmp_path / "result.json"
    args = ["eval", "--policy", str(run_dir), "--tasks", "3", "--out", str(out), "--seed", "4", "--temperature", "0.5"]
    assert cli.run(args) == 0
    result = json.loads(out.read_text())
    assert (result["env"], result["split"], result["num_tasks"], result["num_errors"]) == (
        COUNTER,
        "valid_unseen",
        3,
        0,
    )
    assert (result["seed"], result["temperature"], result["policy"]) == (4, 0.5, str(run_dir))
    assert [row["task_id"] for row in result["tasks"]] == [f"valid_unseen-{n}" for n in range(3)]
    table = capsys.readouterr().out
    assert result["panel_hash"][:16] in table
    assert "95 % interval" in table


def test_eval_in_a_pipe_gives_json_and_is_repeatable(model_dir, capsys):
    results = []
    for _ in range(2):
        assert cli.run(["eval", "--env", COUNTER, "--policy", str(model_dir), "--device", "cpu", "--tasks", "2"]) == 0
        results.append(json.loads(capsys.readouterr().out))
        assert results[-1].pop("wall_time_s") > 0
    assert results[0] == results[1]
    assert results[0]["policy"] == str(model_dir)


def test_an_evaluation_of_errors_only_fails(model_dir, capsys):
    broken = "tests.envs.check.planted_faults:CrashesOnReset"
    assert cli.run(["eval", "--env", broken, "--policy", str(model_dir), "--tasks", "2", "--device", "cpu"]) == 1
    assert "Every episode ended with an error: ZeroDivisionError at turn 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--policy", "/no/such/dir"], "Policy directory /no/such/dir does not exist."),
        (["--policy.device=cuda:99"], "Device 'cuda:99' is not there"),
        (["--policy.device=tpuu"], "'tpuu' is no device."),
        (["--agent.card=plian"], "No agent card is called 'plian'. Did you mean 'plain'?"),
        (["--agent.overrides.context.strategy=ful"], "Agent card field 'context.strategy'"),
        (["--env.options.goall=3"], f"Environment '{COUNTER}' has no option 'goall'. Did you mean 'goal'?"),
        (["--env.split=test"], "There is no split 'test'."),
        (["--algorithm.name=grop"], "Did you mean 'grpo'?"),
        (["--rollout.strategy=plian"], "Rollout strategy 'plian' is not registered. Did you mean 'plain'?"),
        (["--out", "/proc/no"], "Cannot write to '/proc/no'"),
    ],
)
def test_what_cannot_work_is_refused_with_exit_code_2(model_dir, tmp_path, capsys, args, sentence):
    base = ["train", "--env", COUNTER, "--policy", str(model_dir), "--out", str(tmp_path / "run"), *QUICK]
    code = cli.run([*base, *args])
    err = capsys.readouterr().err
    assert sentence in err
    assert code == 2
    assert err.count("\n") == 1


def test_a_damaged_checkpoint_is_refused(run_dir, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text((run_dir / "config.yaml").read_text())
    (tmp_path / "checkpoints" / "step-000001").mkdir(parents=True)
    assert cli.run(["train", "--resume", str(tmp_path)]) == 2
    assert cli.run(["eval", "--policy", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("is damaged") == 2


@pytest.mark.parametrize("env", ["PressesCtrlC", "GetsSigterm"])
def test_ctrl_c_and_sigterm_save_the_step_and_exit_with_130(env, model_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    env = f"tests.cli.test_train:{env}"
    args = ["train", "--env", env, "--policy", str(model_dir), "--steps", "3", "--out", str(run_dir), *QUICK]
    assert cli.run([*args, "--run.checkpoint_every=9"]) == 130
    out = capsys.readouterr().out
    assert f"interrupted after step 1; go on with: agentgym train --resume {run_dir}" in out
    assert cli.run(["train", "--resume", str(run_dir)]) == 0
    assert [row["step"] for row in read_metrics(run_dir / "metrics.jsonl")] == [1, 2, 3]
