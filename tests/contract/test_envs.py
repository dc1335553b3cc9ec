"""Every registered environment keeps the contract, and its panels are the same in another process."""

import json
import subprocess
import sys
from functools import partial
from itertools import combinations

import pytest

from agentgym_rft import registry
from agentgym_rft.envs import make_env
from agentgym_rft.envs.check.multi_agent import MULTI_RULES
from agentgym_rft.envs.check.run import RULES, check_rule
from agentgym_rft.envs.check.subject import CheckSettings, NamedEnv, Subject
from agentgym_rft.envs.multi_agent import TextAECEnv
from agentgym_rft.envs.panels import assert_disjoint, load_panel
from agentgym_rft.errors import ConfigError


def _has_several_agents(spec):
    made = registry.load_object(spec.entry_point)
    return isinstance(made, type) and issubclass(made, TextAECEnv)


FEW = CheckSettings(num_episodes=10, num_instances=2, timeout_s=60)
IDS = [spec.id for spec in registry.env_specs() if spec.id.startswith("agentgym/")]
TEAMS = [id for id in IDS if _has_several_agents(registry.env_spec(id))]
PANELS = """
import json, sys
from agentgym_rft.envs import make_env
from agentgym_rft.envs.panels import load_panel
hashes = {}
for id in sys.argv[1:]:
    env = make_env(id)
    hashes[id] = [load_panel(env, split, 10).panel_hash for split in env.splits]
    env.close()
print(json.dumps(hashes))
"""


@pytest.fixture(scope="module")
def missing():
    """Environments that cannot be made here because an optional dependency is not installed, with the sentence."""
    sentences = {}
    for id in IDS:
        try:
            make_env(id).close()
        except (ConfigError, ImportError) as error:
            sentences[id] = str(error)
    return sentences


@pytest.fixture
def make(request, missing):
    """A function that makes the environment of the test, or a skip."""
    if request.param in missing:
        pytest.skip(missing[request.param])
    return partial(make_env, request.param)


@pytest.fixture(scope="module")
def subjects():
    """One subject for each environment, so that rules share what it knows."""
    return {id: Subject(NamedEnv(id), settings=FEW) for id in IDS}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("make", IDS, indirect=True)
def test_a_registered_environment_keeps_the_rule(make, rule, subjects):
    check_rule(rule, subjects[make.args[0]])


@pytest.mark.parametrize("rule", MULTI_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("make", TEAMS, indirect=True)
def test_a_registered_environment_of_several_agents_keeps_the_rule(make, rule, subjects):
    check_rule(rule, subjects[make.args[0]])


@pytest.mark.parametrize("make", IDS, indirect=True)
def test_no_task_of_one_split_has_the_content_of_a_task_of_another(make):
    env = make()
    for left, right in combinations(env.splits, 2):
        assert_disjoint(env, left, right, 200)
    env.close()


def test_panels_are_the_same_in_another_process(missing):
    ids = [id for id in IDS if id not in missing]
    here = {}
    for id in ids:
        env = make_env(id)
        here[id] = [load_panel(env, split, 10).panel_hash for split in env.splits]
        env.close()
    output = subprocess.run([sys.executable, "-c", PANELS, *ids], check=True, capture_output=True, text=True).stdout
    assert json.loads(output.splitlines()[-1]) == here
    hashes = [panel for panels in here.values() for panel in panels]
    assert len(set(hashes)) == len(hashes)
