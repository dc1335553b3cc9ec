"""`agentgym sft` on the command line: what it prints, and how a run goes on."""

from __future__ import annotations

import signal

from agentgym_rft.cli import main as cli
from agentgym_rft.config.load import read_yaml
from tests.light_switch import Undecided, weights_of

SHAPE = {
    "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2, "head_dim": 8,
    "max_context": 64,
}  # fmt: skip
QUICK = [
    *("--device=cpu", "--num_threads=1", "--sft.tokenizer_episodes=5", "--sft.tokens=2000", "--sft.batch_tokens=500"),
    *(f"--model.{key}={value}" for key, value in SHAPE.items()),
]
ENV = "tests.cli.test_sft:Interrupting"


class Interrupting(Undecided):
    """Ctrl-C is pressed while the demonstration with this number is played."""

    left = 0

    def reset(self, *, seed=None, options=None):
        Interrupting.left -= 1
        if not Interrupting.left:
            signal.raise_signal(signal.SIGINT)
        return super().reset(seed=seed, options=options)


def test_a_run_prints_each_step_and_goes_on_after_ctrl_c(tmp_path, capsys, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert cli.run(["sft", "--env", ENV, "--out", str(whole), *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run {whole}"
    assert [line.split("  ")[0] for line in lines[1:-1]] == [f"step {number}" for number in range(1, len(lines) - 1)]
    assert lines[-1] == f"model {whole / 'model'}"
    monkeypatch.setattr(Interrupting, "left", 20)  # the first five train the tokenizer
    assert cli.run(["sft", "--env", ENV, "--out", str(out), *QUICK]) == 130
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"interrupted after step 1; go on with: agentgym sft --resume {out}"
    assert not (out / "model").exists()
    assert cli.run(["sft", "--resume", str(out)]) == 0
    first, second = weights_of(whole / "model"), weights_of(out / "model")
    assert all((first[name] == second[name]).all() for name in first)


def test_a_finished_run_that_is_resumed_says_so(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.run(["sft", "--env", ENV, "--out", str(out), *QUICK]) == 0
    made = (out / "model" / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.run(["sft", "--resume", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == ["The model is there already.", f"model {out / 'model'}"]
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == made


def test_a_later_stage_of_imitation_starts_as_from_a_pretrained_model(tmp_path):
    recipe = tmp_path / "two.yaml"
    recipe.write_text(
        "env: {id: 'tests.light_switch:Undecided'}\n"
        "stages:\n"
        f"  - {{name: first, model: {SHAPE}, sft: {{tokens: 1000, batch_tokens: 500}}}}\n"
        f"  - {{name: second, model: {SHAPE}, sft: {{tokens: 100, batch_tokens: 500}}, eval: {{num_tasks: 2}}}}\n"
    )
    assert cli.run(["train", "--recipe", str(recipe), "--out", str(tmp_path / "run"), "--trust"]) == 0
    first, second = (read_yaml(tmp_path / "run" / name / "config.yaml") for name in ("1-first", "2-second"))
    assert second["init"] == str(tmp_path / "run" / "1-first" / "model")
    assert (first["sft"]["optimizer"], second["sft"]["optimizer"]) == ("muon", "adamw")
