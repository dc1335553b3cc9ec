import inspect

import pytest
import typer

from agentgym_rft.cli.main import _EXTRA_ARGUMENTS
from agentgym_rft.cli.options import accepts_config
from agentgym_rft.config.leaves import leaves, type_name
from agentgym_rft.config.run import Config


@pytest.fixture
def overrides_of():
    """The overrides, and the command's own options, that some arguments give."""
    got = []

    @accepts_config(Config)
    def command(*, steps: int | None = None, overrides=()) -> None:
        got.append((overrides, steps))

    app = typer.Typer(add_completion=False)
    app.command(context_settings=_EXTRA_ARGUMENTS)(command)

    def call(*args):
        app(list(args), standalone_mode=False)
        return got[-1]

    return call


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], []),
        (["--trainer.steps=5"], [(("trainer", "steps"), 5)]),
        (["--trainer.steps", "5"], [(("trainer", "steps"), 5)]),
        (["--trainer.bf16", "true"], [(("trainer", "bf16"), True)]),
        (["--trainer.lora.targets=[a, b]"], [(("trainer", "lora", "targets"), ["a", "b"])]),
        (["--run.out=2024-01-01"], [(("run", "out"), "2024-01-01")]),
        (["--run.out=null"], [(("run", "out"), None)]),
        (["--policy.path=007"], [(("policy", "path"), "007")]),
        (["--policy.num_threads=null"], [(("policy", "num_threads"), None)]),
        (["--env.options={data: x}"], [(("env", "options"), {"data": "x"})]),
        (["--env.options.data=x=y"], [(["env", "options", "data"], "x=y")]),
        (["--env.options.data", "x", "--run.seed=1"], [(("run", "seed"), 1), (["env", "options", "data"], "x")]),
        (["--env.options.limit=-3"], [(["env", "options", "limit"], -3)]),
        (["--agent.overrides.context.strategy=notes"], [(["agent", "overrides", "context", "strategy"], "notes")]),
    ],
)
def test_options_are_overrides(overrides_of, args, expected):
    overrides, _ = overrides_of(*args)
    assert overrides == expected


def test_a_command_keeps_its_own_options(overrides_of):
    assert overrides_of("--steps", "3", "--run.seed", "1") == ([(("run", "seed"), 1)], 3)


def test_a_decorated_command_shows_all_parameters():
    @accepts_config(Config)
    def command(*, steps: int = 1, overrides=()) -> None:
        raise NotImplementedError

    names = list(inspect.signature(command).parameters)
    assert names[:3] == ["context", "steps", "help_all"]
    assert names[3:] == [leaf.parameter for leaf in leaves(Config)]
    assert "overrides" not in names


def test_types_have_short_names():
    names = {".".join(leaf.path): type_name(leaf.annotation) for leaf in leaves(Config)}
    assert names["trainer.steps"] == "int"
    assert names["rollout.step_timeout_s"] == "float|null"
    assert names["rollout.workers"] == "local|processes|ray"
    assert names["trainer.lora.targets"] == "str"
    assert names["rollout.operators"] == "str|mapping"
    assert names["env.options"] == "mapping"
