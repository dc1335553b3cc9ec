import gymnasium as gym
import pytest

import agentgym_rft
from agentgym_rft import registry
from agentgym_rft.envs import TextEnv
from agentgym_rft.errors import ConfigError, RegistryError
from agentgym_rft.registry.environments import _EnvRegistry
from tests.registry.packages import install

COUNTER = "tests.envs.counter_env:CounterEnv"


@pytest.fixture(scope="module", autouse=True)
def _counter():
    agentgym_rft.register_env("tests/Counter-v0", COUNTER)
    agentgym_rft.register_env("tests/Counter-v3", COUNTER, kwargs={"goal": 5})
    agentgym_rft.register_env("tests/WebStore-v0", COUNTER)


@pytest.mark.parametrize(
    "name", ["agentgym/ALFWorld-v0", "ALFWorld-v0", "alfworld", "alfworld-V0", "AgentGym/alfworld"]
)
def test_a_short_name_in_any_case_is_the_full_id(name):
    assert registry.resolve_env_id(name) == "agentgym/ALFWorld-v0"


def test_a_name_without_version_is_the_highest_version():
    assert registry.resolve_env_id("counter") == "tests/Counter-v3"
    assert registry.make("counter").goal == 5


def test_a_wrong_version_is_answered_with_the_right_one_in_the_same_form():
    with pytest.raises(RegistryError) as error:
        registry.resolve_env_id("WebStore-v1")
    assert str(error.value) == "Environment 'WebStore-v1' is not registered. Did you mean 'WebStore-v0'?"
    with pytest.raises(RegistryError, match=r"Did you mean 'WebStore'\?"):
        registry.resolve_env_id("webstor")
    with pytest.raises(RegistryError, match=r"Did you mean 'agentgym/ALFWorld-v0'\?"):
        registry.resolve_env_id("agentgym/alfword-v0")


def test_a_name_like_no_other_is_answered_with_the_list():
    with pytest.raises(RegistryError, match=r"'zzz' is not registered\. Known: .*ALFWorld"):
        registry.resolve_env_id("zzz")


def test_two_namespaces_with_one_name_are_ambiguous():
    agentgym_rft.register_env("left/Twin-v0", COUNTER)
    agentgym_rft.register_env("right/Twin-v0", COUNTER)
    with pytest.raises(RegistryError, match=r"'twin' is ambiguous\. Write one of: left/Twin-v0, right/Twin-v0\."):
        registry.resolve_env_id("twin")


def test_registering_the_same_twice_is_fine_and_another_is_refused():
    agentgym_rft.register_env("tests/Counter-v0", COUNTER)
    with pytest.raises(RegistryError, match=f"Environment 'tests/Counter-v0' is registered already, as {COUNTER}."):
        agentgym_rft.register_env("tests/Counter-v0", "somewhere:Else")


@pytest.mark.parametrize("name", ["Counter", "a b-v0", "x/y/z-v0", "-v0", "Counter-v", ""])
def test_a_malformed_id_is_refused(name):
    with pytest.raises(RegistryError, match=r"Write Name-v0 or namespace/Name-v0\."):
        agentgym_rft.register_env(name, COUNTER)


def test_make_gives_the_bare_environment_with_its_arguments():
    env = registry.make("tests/Counter-v0", goal=3)
    assert isinstance(env, TextEnv)
    assert env.goal == 3
    assert env.spec.id == "tests/Counter-v0"


def test_make_takes_module_and_class():
    assert registry.make(COUNTER, goal=4).goal == 4
    assert registry.resolve_env_id(COUNTER) == COUNTER


def test_gymnasium_makes_the_same_environment():
    env = gym.make("tests/Counter-v0", goal=3)
    assert env.unwrapped.task_ids("train")
    observation, info = env.reset(seed=0, options={"task_id": "train-1"})
    assert isinstance(observation, str)
    assert info["task_id"] == "train-1"


def test_alfworld_is_known_to_gymnasium():
    assert gym.spec("agentgym/ALFWorld-v0").entry_point == "agentgym_rft.envs.alfworld.env:ALFWorldEnv"


def test_an_unknown_option_of_an_environment_is_named():
    with pytest.raises(ConfigError) as error:
        registry.make("tests/Counter-v0", gaol=3)
    assert str(error.value) == "Environment 'tests/Counter-v0' has no option 'gaol'. Did you mean 'goal'?"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("no_such_module_1:Env", "'no_such_module_1:Env' cannot be imported: there is no module 'no_such_module_1'."),
        (
            "tests.envs.counter_env:Countr",
            "Module 'tests.envs.counter_env' has no 'Countr'. Did you mean 'CounterEnv'?",
        ),
        ("tests.envs.counter_env:", "'tests.envs.counter_env:' names no object."),
        ("tests.envs.counter_env:SPLIT_SIZES", "'tests.envs.counter_env:SPLIT_SIZES' is a dict, expected"),
    ],
)
def test_a_wrong_module_or_class_is_named(path, sentence):
    with pytest.raises(RegistryError) as error:
        registry.make(path)
    assert str(error.value).startswith(sentence)


class NoEnvironment:
    """A class that remembers whether it was made."""

    made = 0

    def __init__(self):
        NoEnvironment.made += 1


def made_by_a_function():
    NoEnvironment()


@pytest.mark.parametrize("name", ["NoEnvironment", "made_by_a_function"])
def test_what_a_path_leads_to_is_called_only_if_it_is_a_class_of_environments(name):
    with pytest.raises(RegistryError, match=f"{name}' is .*, expected a class of environments"):
        registry.make(f"{__name__}:{name}")
    assert NoEnvironment.made == 0


def test_env_specs_lists_ids_with_short_names():
    specs = {spec.id: spec for spec in registry.env_specs()}
    assert specs["agentgym/ALFWorld-v0"].short_name == "alfworld"
    assert list(specs) == sorted(specs)


def test_an_installed_package_adds_environments_by_its_entry_point(tmp_path, monkeypatch):
    install(tmp_path, {"agentgym_rft.envs": {"plugin/Maze-v0": "plugin_maze:Maze"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    envs = _EnvRegistry("Environment", registry.ENV_GROUP)
    assert list(envs) == ["plugin/Maze-v0"]
    assert envs.lookup("plugin/Maze-v0").entry_point == "plugin_maze:Maze"
    assert gym.spec("plugin/Maze-v0").entry_point == "plugin_maze:Maze"


def test_a_decorator_registers_a_class_and_leaves_it_as_it_is():
    @agentgym_rft.register_env("tests/Decorated-v0", kwargs={"level": 2})
    class Decorated(gym.Env):
        def __init__(self, level=1):
            self.level = level

    assert Decorated().level == 1
    assert registry.make("decorated").level == 2
    assert gym.make("tests/Decorated-v0", level=3).unwrapped.level == 3


def test_a_decorator_registers_a_function():
    @agentgym_rft.register_env("tests/ByFunction-v0")
    def make_counter(goal=6):
        return registry.make(COUNTER, goal=goal)

    assert registry.make("byfunction").goal == 6
    assert registry.make("byfunction", goal=7).goal == 7


def test_a_class_that_is_defined_again_takes_the_place_of_the_old_one():
    for number in range(2):

        @agentgym_rft.register_env("tests/Cell-v0")
        class Cell(gym.Env):
            version = number

    assert registry.make("cell").version == 1
    assert gym.make("tests/Cell-v0").unwrapped.version == 1
    with pytest.raises(RegistryError, match="'tests/Cell-v0' is registered already"):
        agentgym_rft.register_env("tests/Cell-v0", type("Other", (gym.Env,), {}))
    with pytest.raises(RegistryError, match="'tests/Cell-v0' is registered already"):
        agentgym_rft.register_env("tests/Cell-v0", Cell, kwargs={"level": 1})


def test_a_function_that_is_defined_again_takes_the_place_of_the_old_one_and_a_lambda_does_not():
    for number in (3, 4):

        @agentgym_rft.register_env("tests/FunctionCell-v0")
        def make_counter(goal=number):
            return registry.make(COUNTER, goal=goal)

    assert registry.make("functioncell").goal == 4
    agentgym_rft.register_env("tests/Lambda-v0", lambda: registry.make(COUNTER))
    with pytest.raises(RegistryError, match="'tests/Lambda-v0' is registered already"):
        agentgym_rft.register_env("tests/Lambda-v0", lambda: registry.make(COUNTER))


def test_an_option_may_be_called_id():
    @agentgym_rft.register_env("tests/WithId-v0")
    class WithId(gym.Env):
        def __init__(self, id):
            self.name = id

    assert registry.make("withid", id="x").name == "x"
