import pytest
import yaml

from agentgym_rft.cli.stages import read_stages
from agentgym_rft.config.leaves import leaves
from agentgym_rft.config.load import (
    find_yaml,
    load_config,
    load_sft_config,
    merge,
    parse_override,
    shipped_dir,
    validate_config,
)
from agentgym_rft.config.run import Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.errors import ConfigError


def _error(call, *arguments):
    with pytest.raises(ConfigError) as error:
        call(*arguments)
    return str(error.value)


def test_without_recipe_the_defaults_apply():
    assert load_config() == Config()


def test_a_recipe_file_is_laid_over_the_defaults_and_overrides_over_it(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("trainer: {steps: 7, learning_rate: 1e-3}\nenv: {options: {a: 1, b: {c: 2}}}\n")
    config = load_config(str(recipe), [(["trainer", "steps"], 9), (["env", "options", "b", "d"], 3)])
    assert config.trainer.steps == 9
    assert config.trainer.learning_rate == 1e-3
    assert config.env.options == {"a": 1, "b": {"c": 2, "d": 3}}
    assert config.rollout == Config().rollout


def test_an_empty_recipe_is_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(str(tmp_path / "empty.yaml")) == Config()


def test_the_last_of_two_overrides_wins():
    assert load_config(None, [(["run", "seed"], 1), (["run", "seed"], 2)]).run.seed == 2


def test_a_resolved_configuration_survives_its_own_yaml():
    config = load_config(None, [(["env", "options", "data"], "x"), (["rollout", "step_timeout_s"], 2.5)])
    assert validate_config(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped_dir("trainers").glob("*.yaml")))
def test_every_shipped_recipe_is_valid(name):
    data = yaml.safe_load(find_yaml("trainers", name).read_text())
    if "stages" in data:
        assert read_stages(data)
    else:
        (load_sft_config if "sft" in data else load_config)(name)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (["trainr", "steps"], 3, "There is no configuration section 'trainr'. Did you mean 'trainer'?"),
        (["trainer", "stepz"], 3, "There is no configuration key 'trainer.stepz'. Did you mean 'trainer.steps'?"),
        (
            ["trainer", "group_size"],
            3,
            "There is no configuration key 'trainer.group_size'. Did you mean 'rollout.group_size'?",
        ),
        (
            ["run", "zzzzzzzzzzz"],
            3,
            "There is no configuration key 'run.zzzzzzzzzzz'. See the options that start with --run in --help-all.",
        ),
        (
            ["trainer", "steps"],
            0,
            "Configuration key 'trainer.steps' is 0: input should be greater than or equal to 1.",
        ),
        (["trainer", "steps"], 1.5, "Configuration key 'trainer.steps' is 1.5: input should be a valid integer"),
        (
            ["rollout", "workers"],
            "slurm",
            "Configuration key 'rollout.workers' is 'slurm': input should be 'local',",
        ),
        (["trainer"], 3, "Configuration key 'trainer' is 3: expected a mapping."),
    ],
)
def test_a_wrong_value_is_named_in_one_sentence(path, value, sentence):
    message = _error(load_config, None, [(path, value)])
    assert message.startswith(sentence)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainer.steps=20", (["trainer", "steps"], 20)),
        ("trainer.bf16=true", (["trainer", "bf16"], True)),
        ("env.options.data=a=b", (["env", "options", "data"], "a=b")),
        ("trainer.lora.targets=[a, b]", (["trainer", "lora", "targets"], ["a", "b"])),
        ("run.out=", (["run", "out"], None)),
    ],
)
def test_an_override_is_a_path_and_a_yaml_value(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["trainer.steps", "steps=3", "", "=3"])
def test_text_that_is_no_override_is_refused(text):
    assert _error(parse_override, text).startswith(f"'{text}' is not an override. Write section.key=value")


def test_an_override_that_is_no_yaml_is_refused():
    assert _error(parse_override, "run.out=[1") == "The value in 'run.out=[1' is not valid YAML; quote it."


def test_recipes_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    assert _error(load_config, str(tmp_path / "none.yaml")).startswith("There is no file '")
    assert "holds a list, expected a mapping of sections." in _error(load_config, str(tmp_path / "list.yaml"))
    assert _error(load_config, str(tmp_path / "broken.yaml")).endswith(
        "broken.yaml' is not valid YAML: line 2: expected ',' or ']', but got '<stream end>'."
    )
    assert _error(load_config, "no-such-recipe").startswith("No recipe is called 'no-such-recipe'.")


def test_a_misspelt_card_is_answered_with_the_closest():
    assert _error(find_yaml, "agents", "plian") == "No agent card is called 'plian'. Did you mean 'plain'?"


def test_mappings_merge_and_other_values_replace():
    base = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(base, {"a": {"c": 3}, "d": [2], "e": None}) == {"a": {"b": 1, "c": 3}, "d": [2], "e": None}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_supervised_run_has_its_own_keys():
    config = load_sft_config(None, [(["sft", "tokens"], 1000), (["init"], "some/dir")])
    assert (config.sft.tokens, config.init) == (1000, "some/dir")
    assert _error(load_sft_config, None, [(["sft", "token"], 1)]).endswith("Did you mean 'sft.tokens'?")
    assert {"init", "model.vocab_size"} <= {leaf.name for leaf in leaves(SftConfig)}


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().trainer.steps = 3


def test_a_name_that_no_file_can_have_is_refused_as_any_other():
    for name in ("a" * 300, f"{'a' * 300}.yaml"):
        with pytest.raises(ConfigError, match=r"called|There is no file"):
            find_yaml("agents", name)


@pytest.mark.parametrize(
    ("key", "number", "sentence"),
    [
        ("run.seed", 2**53 + 1, "'run.seed' is 9007199254740993: expected a whole number up to 9007199254740992."),
        ("trainer.learning_rate", 10**400, "'trainer.learning_rate' is 1"),
        (
            "policy.num_threads",
            10**9,
            "'policy.num_threads' is 1000000000: input should be less than or equal to 1024.",
        ),
        ("rollout.num_tasks", 200_000, "num_tasks times group_size is 1600000; expected at most 1000000 episodes"),
    ],
)
def test_numbers_beyond_all_use_are_refused(key, number, sentence):
    section, name = key.split(".")
    assert sentence in _error(validate_config, {section: {name: number}})
    assert validate_config({"run": {"seed": 2**53}}).run.seed == 2**53
