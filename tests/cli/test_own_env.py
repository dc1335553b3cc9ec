"""A plain gymnasium environment is trained on and evaluated from the command line as it is."""

import json

from agentgym_rft.cli.main import run

LETTERS = "tests.envs.plain_envs:Letters"


def test_a_plain_environment_is_trained_on_and_evaluated(switch_policy, tmp_path, capsys):
    out = tmp_path / "run"
    few = ["--rollout.num_tasks=2", "--rollout.group_size=2", "--rollout.max_steps=2", "--policy.max_context=64"]
    settings = ["--eval.num_tasks=3", "--eval.max_steps=2", "--policy", str(switch_policy), "--steps", "1"]
    assert run(["train", "--env", LETTERS, *few, *settings, "--out", str(out)]) == 0
    capsys.readouterr()
    result = tmp_path / "result.json"
    assert run(["eval", "--policy", str(out), "--tasks", "3", "--max-steps", "2", "--out", str(result)]) == 0
    summary = json.loads(result.read_text())
    assert (summary["env"], summary["split"], summary["num_tasks"], summary["num_errors"]) == (LETTERS, "test", 3, 0)
    assert [row["task_id"] for row in summary["tasks"]] == ["seed-10000", "seed-10001", "seed-10002"]
