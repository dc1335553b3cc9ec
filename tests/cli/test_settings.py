import errno
import tempfile
from pathlib import Path

import pytest
import yaml

from agentgym_rft.cli.settings import (
    default_recipe,
    fresh_config,
    is_run_dir,
    place_in,
    resumed_config,
    say_whose_seed,
)
from agentgym_rft.config.load import load_config, shipped_dir
from agentgym_rft.config.run import Config
from agentgym_rft.errors import CheckpointError, ConfigError, DataError, RegistryError

COUNTER = "tests.envs.counter_env:CounterEnv"


def _run_dir(path, overrides=()):
    (path / "checkpoints").mkdir(parents=True)
    config = load_config(None, [(["env", "id"], COUNTER), (["trainer", "steps"], 5), *overrides])
    (path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def test_an_environment_without_recipe_takes_the_defaults():
    assert default_recipe(COUNTER) is None
    assert fresh_config(COUNTER, None, ()).trainer == Config().trainer
    assert fresh_config(COUNTER, None, ()).env.id == COUNTER


def test_the_default_recipe_is_the_one_named_like_the_environment():
    exists = (shipped_dir("trainers") / "alfworld.yaml").is_file()
    for name in ("alfworld", "ALFWorld-v0", "agentgym/ALFWorld-v0"):
        assert default_recipe(name) == ("alfworld" if exists else None)
    assert fresh_config(None, None, ()) == fresh_config("ALFWORLD", None, ())


def test_the_environment_id_is_written_out():
    assert fresh_config("alfworld", None, ()).env.id == "agentgym/ALFWorld-v0"
    assert fresh_config(None, None, [(["env", "id"], "alfworld")]).env.id == "agentgym/ALFWorld-v0"


def test_a_named_environment_replaces_that_of_the_recipe(tmp_path):
    (tmp_path / "r.yaml").write_text("env: {id: Nope-v0}\ntrainer: {steps: 3}\n")
    config = fresh_config(COUNTER, str(tmp_path / "r.yaml"), ())
    assert (config.env.id, config.trainer.steps) == (COUNTER, 3)
    with pytest.raises(RegistryError, match="'Nope-v0' is not registered"):
        fresh_config(None, str(tmp_path / "r.yaml"), ())


def test_overrides_go_over_the_recipe(tmp_path):
    (tmp_path / "r.yaml").write_text("trainer: {steps: 3}\n")
    config = fresh_config(COUNTER, str(tmp_path / "r.yaml"), [(["trainer", "steps"], 4), (["trainer", "steps"], 5)])
    assert config.trainer.steps == 5


def test_a_resumed_run_keeps_its_configuration_and_directory(tmp_path):
    run_dir = _run_dir(tmp_path / "run")
    config = resumed_config(run_dir, [(["trainer", "steps"], 9)])
    assert (config.env.id, config.trainer.steps, config.run.out) == (COUNTER, 9, str(run_dir))


def test_a_resumed_run_has_no_other_directory(tmp_path):
    run_dir = _run_dir(tmp_path / "run")
    assert resumed_config(run_dir, [(["run", "out"], str(run_dir))]).run.out == str(run_dir)
    with pytest.raises(ConfigError, match="goes on in its own directory"):
        resumed_config(run_dir, [(["run", "out"], str(tmp_path / "other"))])


def test_only_a_run_can_be_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="There is no run in"):
        resumed_config(tmp_path, ())
    (tmp_path / "config.yaml").write_text("trainer: {steps: many}\n")
    with pytest.raises(ConfigError, match=r"'trainer\.steps' is 'many'"):
        resumed_config(tmp_path, ())


def test_a_run_is_told_from_a_model(tmp_path):
    assert is_run_dir(_run_dir(tmp_path / "run"))
    assert not is_run_dir(tmp_path)
    supervised = tmp_path / "sft"
    (supervised / "model").mkdir(parents=True)
    (supervised / "config.yaml").write_text("")
    assert not is_run_dir(supervised)
    (supervised / "model").rmdir()
    (supervised / "config.yaml").write_text("sft: {tokens: 3}")
    assert not is_run_dir(supervised)  # one that has not come to its model


def test_an_environment_without_a_seed_policy_is_told_whose_plays(capsys):
    config = fresh_config(COUNTER, None, ())
    assert config.policy.path == "seed:alfworld"
    say_whose_seed(config)
    assert f"'seed:alfworld' plays, which knows nothing of {COUNTER}." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("env", "policy", "error"),
    [("tests.envs.counter_env:CounterEvn", "seed", RegistryError), ("alfworld", "seed:webshp", DataError)],
)
def test_a_wrong_name_is_refused_before_the_line_on_whose_seed_policy_plays(env, policy, error, capsys):
    config = fresh_config(env, None, [(("policy", "path"), policy)])
    with pytest.raises(error, match="Did you mean"):
        say_whose_seed(config)
    assert capsys.readouterr().err == ""


def test_an_environment_with_a_seed_policy_gets_it_silently(capsys):
    for env in ("alfworld", "webshop"):
        config = fresh_config(env, None, ())
        assert config.policy.path == f"seed:{env}"
        say_whose_seed(config)
    say_whose_seed(fresh_config(COUNTER, None, [(("policy", "path"), "runs/mine")]))
    assert capsys.readouterr().err == ""


def test_a_file_about_a_run_goes_into_it_or_beside_the_user_where_it_may_only_be_read(tmp_path, monkeypatch):
    assert place_in(tmp_path, "report.html") == tmp_path / "report.html"
    assert place_in(tmp_path / "none", "report.html") == tmp_path / "none" / "report.html"
    temporary_file = tempfile.TemporaryFile

    def read_only(dir):
        if dir == tmp_path:
            raise OSError(errno.EROFS, "Read-only file system")
        return temporary_file(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    assert place_in(tmp_path, "report.html") == Path(f"{tmp_path.name}-report.html")
