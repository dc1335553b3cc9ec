import errno
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import agentgym_rft
from agentgym_rft.cli import main as cli
from agentgym_rft.config.leaves import leaves, shown
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.envs.check.run import RULES

ROOT = Path(agentgym_rft.__file__).parent.parent
COUNTER = "tests.envs.counter_env:CounterEnv"


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line in this process: exit code, stdout, stderr."""

    def call(*args, stdin=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = cli.run([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def _process(*args, **env):
    command = [sys.executable, "-m", "agentgym_rft.cli.main", *args]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True)


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("train", "eval", "play", "envs", "check-env", "new-env", "sft", "view", "report"):
        assert command in out


def test_a_file_in_the_working_folder_hides_no_library(tmp_path):
    for library in ("pydantic", "rich", "csv"):  # all read after the command line has begun
        (tmp_path / f"{library}.py").write_text("raise SystemExit(1)")
    command = [sys.executable, "-P", "-c", "from agentgym_rft.cli.main import main; main()", "envs"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"agentgym {name}" in out


def described(lines, leaf):
    """The help of a key, on as many lines as it takes."""
    first = next(n for n, line in enumerate(lines) if line.startswith(f"  {leaf.option}={shown(leaf.default)}"))
    rest = itertools.takewhile(lambda line: line.startswith("    "), lines[first + 1 :])
    return " ".join(" ".join([lines[first], *rest]).split())


@pytest.mark.parametrize(("command", "model"), [("train", Config), ("explore", Config), ("sft", SftConfig)])
@pytest.mark.parametrize("columns", ["60", "80", "250"])
def test_help_shows_the_keys_that_matter_and_help_all_shows_all(run, monkeypatch, command, model, columns):
    monkeypatch.setenv("COLUMNS", columns)
    for option, is_shown in (("--help", lambda leaf: leaf.is_main), ("--help-all", lambda leaf: True)):
        code, out, _ = run(command, option)
        _, _, config = out.partition("of the configuration")
        lines = config.splitlines()
        wanted = [leaf for leaf in leaves(model) if is_shown(leaf)]
        assert code == 0
        assert "--recipe" in out
        assert [line.split("=")[0].strip() for line in lines if line.startswith("  --")] == [x.option for x in wanted]
        assert all(leaf.description and leaf.description in described(lines, leaf) for leaf in wanted)
        assert max(map(len, lines)) <= (80 if columns == "60" else min(int(columns), 120))


def test_thirty_keys_of_training_matter_most():
    assert sum(leaf.is_main for leaf in leaves(Config)) == 30


def test_help_shows_choices_and_what_a_key_without_a_default_takes(run):
    lines = run("train", "--help-all")[1].splitlines()
    told = {leaf.name: described(lines, leaf) for leaf in leaves(Config)}
    assert told["trainer.mode"].endswith("(sync|one_step_off|async)")
    assert told["run.out"].startswith("--run.out=null ")
    assert told["run.out"].endswith("(str|null)")
    assert told["algorithm.controls"].startswith("--algorithm.controls=[] ")
    assert told["trainer.bf16"].startswith("--trainer.bf16=false ")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["trian"], "No such command 'trian'."),
        (["train", "--stepz", "3"], "There is no option '--stepz'. Did you mean '--steps'?"),
        (["train", "--trainer.stepz=3"], "There is no option '--trainer.stepz'. Did you mean '--trainer.steps'?"),
        (["train", "--trainer.group_size=3"], "There is no option '--trainer.group_size'. Did you mean '--rollout.gr"),
        (["train", "--qqqqqqqqqqqq"], "There is no option '--qqqqqqqqqqqq'. See --help-all for all options."),
        (["train", "--env.options.data"], "Option '--env.options.data' needs a value: --env.options.data=value."),
        (["train", "--env.options.data", "--steps", "3"], "Option '--env.options.data' needs a value"),
        (["train", "junk"], "'junk' is not expected here; options are written --section.key=value."),
        (["train", "--env", "alfwrld"], "Environment 'alfwrld' is not registered. Did you mean 'ALFWorld'?"),
        (["train", "--recipe", "no-such"], "No recipe is called 'no-such'."),
        (["train", "--recipe", "none.yaml"], "There is no file 'none.yaml'."),
        (
            ["train", "--steps", "0"],
            "Configuration key 'trainer.steps' is 0: input should be greater than or equal to 1.",
        ),
        (["train", "--trainer.steps=x"], "Configuration key 'trainer.steps' is 'x': input should be a valid integer"),
        (["train", "--workers", "slurm"], "Configuration key 'rollout.workers' is 'slurm': input should be 'local',"),
        (["train", "--resume", "/no/such/run"], "There is no run in '/no/such/run': it has no config.yaml."),
        (["eval"], "Missing"),
        (["eval", "--policy", "seed", "--tasks", "0"], "Invalid value for '--tasks'"),
        (
            ["eval", "--policy", "seed", "--out", "/no/dir/x.json"],
            "Cannot write '/no/dir/x.json': there is no directory",
        ),
        (["play", "--env", f"{COUNTER}x"], "Module 'tests.envs.counter_env' has no 'CounterEnvx'."),
        (["play", "--env", COUNTER, "--task", "nope"], "There is no task 'nope'."),
        (["play", "--env", COUNTER, "--data", "x"], f"Environment '{COUNTER}' has no option 'data'."),
        (["check-env", "Nope-v0"], "Environment 'Nope-v0' is not registered."),
        (["check-env", "no_such_module_1:Env"], "'no_such_module_1:Env' cannot be imported: there is no module"),
        (["check-env", COUNTER, "--data", "x"], f"Environment '{COUNTER}' has no option 'data'."),
        (["check-env"], "Give check-env the name of one environment, or --all."),
        (["check-env", COUNTER, "--all"], "Give check-env the name of one environment, or --all."),
        (["new-env", "class"], "'class' is no name for a module: use small letters"),
        (["new-env", "MyEnv"], "'MyEnv' is no name for a module: use small letters"),
        (["new-env", "json"], "There is a module 'json' already, which 'json.py' would hide"),
        (["new-env", "my_env", "--out", "/no/dir"], "There is no directory '/no/dir' to write 'my_env.py' to."),
        (["view", "/no/such/run"], "'/no/such/run' is no run directory"),
        (["report"], "Missing argument"),
        (["report", "/no/such/run"], "'/no/such/run' is no run directory"),
        (["report", "/no/such/run", "--out", "/no/dir/x.html"], "Cannot write '/no/dir/x.html': there is no directory"),
        (["sft", "--sft.token=3"], "There is no option '--sft.token'. Did you mean '--sft.tokens'?"),
    ],
)
def test_a_usage_error_is_one_sentence_and_exit_code_2(run, args, sentence):
    code, out, err = run(*args)
    assert code == 2
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1


def test_a_process_exits_with_the_code_and_prints_no_traceback():
    result = _process("train", "--env", "alfwrld")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "Environment 'alfwrld' is not registered. Did you mean 'ALFWorld'?\n"


def test_a_traceback_is_shown_on_request():
    result = _process("train", "--env", "alfwrld", AGENTGYM_DEBUG="1")
    assert result.returncode == 2
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("the disk is full."), "RuntimeError: the disk is full"),
        (KeyError(), "KeyError"),
        (KeyError("x"), "KeyError: 'x'"),
        (OSError(71, "Protocol error"), "OSError: [Errno 71] Protocol error"),
        (ValueError("one\ntwo"), "ValueError: one two"),
        (SystemExit(0), "SystemExit: 0"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
def test_any_other_failure_exits_with_1_and_a_sentence(run, monkeypatch, error, said):
    def fails(*_):
        raise error

    monkeypatch.setattr("agentgym_rft.cli.play.play_episode", fails)
    code, _, err = run("play", "--env", COUNTER)
    assert code == 1
    assert err == f"{said}. Set AGENTGYM_DEBUG=1 to see where it was raised.\n"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("CUDA")]
)
def test_too_little_memory_is_said_with_what_needs_less(run, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("agentgym_rft.cli.play.play_episode", fails)
    code, _, err = run("play", "--env", COUNTER)
    assert code == 1
    assert err.startswith(f"There is too little memory ({type(error).__name__}")
    assert "trainer.micro_batch_tokens" in err


def test_a_disk_that_refuses_is_named_with_its_file(run, monkeypatch):
    def fails(*_):
        raise OSError(errno.EROFS, "Read-only file system", "a/b.json")

    monkeypatch.setattr("agentgym_rft.cli.play.play_episode", fails)
    assert run("play", "--env", COUNTER)[::2] == (
        1,
        "The operating system refuses 'a/b.json': Read-only file system. Make room, or choose another place.\n",
    )


def test_an_interrupt_exits_with_130(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("agentgym_rft.cli.play.play_episode", interrupted)
    assert run("play", "--env", COUNTER)[0] == 130


def test_envs_lists_ids_and_short_names(run):
    code, out, _ = run("envs")
    assert code == 0
    assert ["agentgym/ALFWorld-v0", "alfworld", "agentgym_rft.envs.alfworld.env:ALFWorldEnv"] in [
        line.split() for line in out.splitlines()
    ]


def test_check_env_names_the_rules_that_hold_and_the_one_that_does_not(run):
    code, out, _ = run("check-env", COUNTER)
    assert code == 0
    assert re.search(r"^ok +same seed gives the same episode +\d\.\d\d s$", out, re.MULTILINE)
    assert f"{COUNTER} keeps all {len(RULES)} rules." in out
    faulty = "tests.envs.check.planted_faults:NoTasks"
    code, out, err = run("check-env", faulty)
    assert code == 1
    assert re.search(r"^failed +lists its splits.*\n +task_ids\('train'\) is empty\.$", out, re.MULTILINE)
    assert re.search(r"^skipped +any text is an action", out, re.MULTILINE)
    assert err == f"{faulty} breaks 1 of {len(RULES)} rules.\n"


def test_a_person_plays_and_wins(run):
    code, out, _ = run("play", "--env", COUNTER, "--task", "train-1", stdin="?\nup\njump\nup\nup\n")
    assert code == 0
    assert "task train-1." in out
    assert "up\ndown" in out
    assert "the counter shows 3." in out
    assert out.rstrip().endswith("won after 4 turns, score 1.00")


@pytest.mark.parametrize(("stdin", "outcome"), [("down\n", "lost after 1 turns"), ("up\n", "left after 1 turns")])
def test_a_person_loses_or_leaves(run, stdin, outcome):
    code, out, _ = run("play", "--env", COUNTER, "--split", "valid_seen", stdin=stdin)
    assert code == 0
    assert "task valid_seen-0." in out
    assert outcome in out


def test_view_writes_the_report_of_a_run(run, tmp_path):
    (tmp_path / "config.yaml").write_text("run: {seed: 0}\n")
    code, out, _ = run("view", tmp_path)
    assert code == 0
    assert out.strip() == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").is_file()
    elsewhere = tmp_path / "page.html"
    assert run("view", tmp_path, "--out", elsewhere)[1].strip() == str(elsewhere)
    assert elsewhere.read_text() == (tmp_path / "report.html").read_text()


def test_report_compares_runs(run, tmp_path):
    metrics = "".join(
        f'{{"step": {n}, "entropy/predicted_delta": {n}, "entropy/measured_delta": {2 * n}}}\n' for n in (1, 2, 3)
    )
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("run: {seed: 0}\n")
    (tmp_path / "a" / "metrics.jsonl").write_text(metrics)
    code, out, _ = run("report", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert out.splitlines() == [
        "a: predicted and measured change of entropy correlate, r = 1.000",
        str(tmp_path / "a" / "comparison.html"),
    ]
    assert (tmp_path / "a" / "comparison.html").is_file()
    assert run("report", tmp_path / "b", "--out", tmp_path / "other.html")[1].strip() == str(tmp_path / "other.html")
    assert (tmp_path / "other.html").is_file()


def test_a_name_that_no_file_can_have_is_one_sentence(capsys):
    assert cli.run(["eval", "--policy", "a" * 300]) == 2
    assert re.fullmatch(rf"'{'a' * 300}/config\.\w+' is too long for the name of a file\.\n", capsys.readouterr().err)
