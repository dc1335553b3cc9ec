from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.core import Group, StopReason, Trajectory
from agentgym_rft.errors import CheckpointError, ConfigError, DataError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.rollouts.policies import load_policy_model, policy_dir
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.batch.groups import by_seat
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.learner import make_learner
from agentgym_rft.trainers.learner.lora import sharing_copy
from agentgym_rft.trainers.learner.per_policy import by_policy, joined_metrics
from agentgym_rft.trainers.learner.processes import ALONE, Ranks
from agentgym_rft.trainers.loop import train, train_step
from agentgym_rft.trainers.run import Parts, build
from tests.light_switch import weights_of
from tests.team_switch import TeamSwitch
from tests.trainers.tiny import tiny_model, updated

FOLDERS = ("checkpoints", "policies/right/checkpoints")


class RoleSwitch(TeamSwitch):
    """Each agent has a role of its own."""

    def role(self, agent: str) -> str:
        return {"a": "left", "b": "right"}[agent]


def team_config(policy: Path, out: Path, /, **sections: dict[str, object]) -> Config:
    given = {
        "env": {"id": "tests.trainers.learner.test_per_policy:RoleSwitch"},
        "policy": {"path": str(policy), "max_context": 64, "num_threads": 1, "device": "cpu"},
        "rollout": {"num_tasks": 4, "group_size": 4, "max_steps": 9},
        "trainer": {"steps": 4, "learning_rate": 1e-2, "warmup_steps": 0},
        "team": {"weights": "separate"},
        "eval": {"num_tasks": 0},
        "run": {"out": str(out), "checkpoint_every": 1},
    }
    return validate_config({name: {**given.get(name, {}), **sections.get(name, {})} for name in {**given, **sections}})


def opened(config: Config) -> Parts:
    parts = build(config)
    parts.source.begin(0, parts.learners.weights)
    return parts


def copied(weights) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items()}


def changed(before, after) -> set[str]:
    return {name.partition("/")[0] for name in before if not torch.equal(before[name], after[name])}


def same_run(policy: Path, tmp_path: Path, /, **sections: dict[str, object]) -> None:
    """Two steps and two more are four steps, to the last bit."""
    train(team_config(policy, tmp_path / "whole", **sections))
    short = {"trainer": {**sections.get("trainer", {}), "steps": 2}}
    train(team_config(policy, tmp_path / "resumed", **{**sections, **short}))
    train(team_config(policy, tmp_path / "resumed", **sections), resume=tmp_path / "resumed")
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "resumed")]
    plain = [[{k: v for k, v in row.items() if not k.startswith(("time", "speed"))} for row in each] for each in rows]
    assert plain[0] == plain[1]
    for folder in sorted(path.parent for path in (tmp_path / "whole").glob("**/step-000004/model/config.json")):
        twin = tmp_path / "resumed" / folder.relative_to(tmp_path / "whole")
        mine, theirs = weights_of(folder), weights_of(twin)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), folder


def test_groups_go_to_the_policy_that_played_them():
    def group(name: str, *players: str) -> Group:
        infos = [{"role": p, "player": p, "is_trained": p != "random"} for p in players]
        made = [
            Trajectory("1", name, name, (), StopReason.FAILURE, agent_id=f"agent_{number}", info=info)
            for number, info in enumerate(infos)
        ]
        return Group(name, "1", tuple(made))

    groups = by_seat([group("g", "left", "right", "left"), group("h", "random", "right")])
    own = by_policy(groups)
    assert {key: [each.group_id for each in found] for key, found in own.items()} == {
        "left": ["g#agent_0", "g#agent_2"],
        "right": ["g#agent_1", "h#agent_1"],
    }


def test_metrics_of_all_are_sums_of_counts_largest_values_and_means():
    joined = joined_metrics(
        {
            "left": {"tokens/total": 3.0, "update/num_steps": 1.0, "drift/logprob_max": 0.5, "loss/policy": 1.0},
            "right": {"tokens/total": 4.0, "update/num_steps": 2.0, "drift/logprob_max": 0.25, "loss/policy": 2.0},
        }
    )
    assert joined["tokens/total"] == 7.0
    assert joined["update/num_steps"] == 3.0
    assert joined["drift/logprob_max"] == 0.5
    assert joined["loss/policy"] == 1.5
    assert joined["policy/right/loss/policy"] == 2.0


def test_one_policy_for_all_that_is_played_is_the_case_of_length_one(switch_policy, tmp_path):
    parts = opened(team_config(switch_policy, tmp_path, team={"weights": "shared"}))
    groups = by_seat(parts.source.batch(0).groups)
    assert [(key, own) for key, _, own in parts.learners.of(groups)] == [("", groups)]
    assert parts.learners.weights().keys() == parts.model.state_dict().keys()
    assert joined_metrics({"": {"loss/policy": 1.0}}) == {"loss/policy": 1.0}
    parts.workers.close()


@pytest.mark.parametrize("lora", [{}, {"rank": 2}], ids=["full", "lora"])
def test_each_policy_learns_from_its_own_groups_alone(switch_policy, tmp_path, lora):
    if lora:
        pytest.importorskip("peft")
    parts = opened(team_config(switch_policy, tmp_path, trainer={"lora": lora}))
    groups = by_seat(parts.source.batch(0).groups)
    before = copied(parts.learners.weights())
    (left, right) = parts.learners.of(groups)
    assert (left[0], right[0]) == ("left", "right")
    assert [each[2] for each in (left, right)] == list(by_policy(groups).values())
    updated(left[1], *build_table(left[2], 0), parts.config)
    middle = copied(parts.learners.weights())
    assert changed(before, middle) == {"left"}
    updated(right[1], *build_table(right[2], 0), parts.config)
    assert changed(middle, parts.learners.weights()) == {"right"}
    parts.workers.close()


def test_the_seats_are_played_by_their_own_policies(switch_policy, tmp_path):
    parts = opened(team_config(switch_policy, tmp_path, trainer={"learning_rate": 0.3}))
    metrics, _ = train_step(parts, 0)
    weights = parts.learners.weights()
    names = [name.removeprefix("left/") for name in weights if name.startswith("left/")]
    assert any(not torch.equal(weights[f"left/{name}"], weights[f"right/{name}"]) for name in names)
    own = [metrics[f"policy/{key}/tokens/total"] for key in ("left", "right")]
    assert metrics["tokens/total"] == sum(own)
    assert min(own) > 0
    # what is scored by the policy of the seat is what was sampled there: a mix-up would raise TokenMismatchError
    again, _ = train_step(parts, 1)
    assert again["drift/logprob_max"] < 1e-3
    parts.workers.close()


def test_adapters_of_the_roles_share_one_base_that_never_changes(switch_policy, tmp_path):
    pytest.importorskip("peft")
    parts = opened(team_config(switch_policy, tmp_path, trainer={"lora": {"rank": 2}}))
    weights = parts.learners.weights()
    base = [name.removeprefix("left/") for name in weights if name.startswith("left/") and ".lora_" not in name]
    adapters = [name.removeprefix("left/") for name in weights if name.startswith("left/") and ".lora_" in name]
    assert adapters
    assert base
    assert all(weights[f"left/{name}"].data_ptr() == weights[f"right/{name}"].data_ptr() for name in base)
    assert all(weights[f"left/{name}"].data_ptr() != weights[f"right/{name}"].data_ptr() for name in adapters)
    before = copied(weights)
    train_step(parts, 0)
    after = parts.learners.weights()
    assert all(torch.equal(before[f"left/{name}"], after[f"left/{name}"]) for name in base)
    assert any(not torch.equal(after[f"left/{name}"], after[f"right/{name}"]) for name in adapters)
    parts.workers.close()


def test_a_reference_beside_adapters_needs_no_weights_of_its_own(switch_policy, tmp_path):
    pytest.importorskip("peft")
    config = team_config(switch_policy, tmp_path, trainer={"lora": {"rank": 2}}, algorithm={"kl_coef": 0.1})
    model, tokenizer = load_policy_model(config.policy)
    learner = make_learner(config, build_algorithm(config.algorithm), model, tokenizer, ALONE)
    assert learner.reference is not None
    reference, trained = learner.reference.model.state_dict(), model.state_dict()
    assert not any(".lora_" in name for name in reference)
    base = {name.replace(".base_layer", ""): tensor for name, tensor in trained.items() if ".lora_" not in name}
    assert {name: tensor.data_ptr() for name, tensor in reference.items()} == {
        name: tensor.data_ptr() for name, tensor in base.items()
    }


def test_a_sharing_copy_has_the_same_tensors_and_computes_the_same():
    model = tiny_model(dtype=torch.float32)
    copy = sharing_copy(model)
    ids = torch.arange(12)[None]
    assert copy is not model
    assert torch.equal(copy(ids).logits, model(ids).logits)
    mine, theirs = dict(model.named_parameters()), dict(copy.named_parameters())
    assert all(mine[name] is theirs[name] for name in mine)


@pytest.mark.parametrize("lora", [{}, {"rank": 2}], ids=["full", "lora"])
def test_a_resumed_run_of_two_policies_is_the_run_that_was_not_stopped(switch_policy, tmp_path, lora):
    if lora:
        pytest.importorskip("peft")
    same_run(switch_policy, tmp_path, trainer={"lora": lora})
    first, other = policy_dir(f"{tmp_path / 'whole'}#left"), policy_dir(f"{tmp_path / 'whole'}#right")
    assert (first, other) == (
        tmp_path / "whole/checkpoints/step-000004/model",
        tmp_path / "whole/policies/right/checkpoints/step-000004/model",
    )
    mine, theirs = weights_of(first), weights_of(other)
    assert any(not torch.equal(mine[name], theirs[name]) for name in mine)


def test_policies_of_roles_can_lag_one_step(switch_policy, tmp_path):
    pytest.importorskip("peft")
    for name in ("a", "b"):
        config = team_config(switch_policy, tmp_path / name, trainer={"mode": "one_step_off", "lora": {"rank": 2}})
        assert train(config).num_steps == 4
    for key in ("left", "right"):
        mine, theirs = (weights_of(policy_dir(f"{tmp_path / name}#{key}")) for name in ("a", "b"))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_run_goes_on_from_the_newest_step_that_all_policies_have(switch_policy, tmp_path):
    config = team_config(switch_policy, tmp_path / "run", run={"out": str(tmp_path / "run"), "keep_checkpoints": 1})
    train(config)
    steps = {folder: sorted(path.name for path in (tmp_path / "run" / folder).iterdir()) for folder in FOLDERS}
    # one more of the others: their older one is there until the first policy has its new one
    assert steps == dict(zip(FOLDERS, (["step-000004"], ["step-000003", "step-000004"]), strict=True))
    shutil.copytree(tmp_path / "run", tmp_path / "broken")
    # killed between the save of the others and that of the first one
    shutil.copytree(
        tmp_path / "run/policies/right/checkpoints/step-000004",
        tmp_path / "broken/policies/right/checkpoints/step-000009",
    )
    longer = team_config(
        switch_policy, tmp_path / "broken", run={"out": str(tmp_path / "broken")}, trainer={"steps": 5}
    )
    assert train(longer, resume=tmp_path / "broken").num_steps == 5
    assert not (tmp_path / "broken/policies/right/checkpoints/step-000009").exists()
    shutil.rmtree(tmp_path / "run/policies/right/checkpoints/step-000004")
    with pytest.raises(CheckpointError, match=r"no good checkpoint of step 4 .*: manifest.json is missing"):
        train(config, resume=tmp_path / "run")


def test_a_run_of_several_policies_is_no_policy_without_a_role(switch_policy, tmp_path):
    train(team_config(switch_policy, tmp_path / "run", trainer={"steps": 1}))
    with pytest.raises(DataError, match=r"several policies, .* Name one: '.*run#left', '.*run#right'\."):
        policy_dir(str(tmp_path / "run"))
    with pytest.raises(DataError, match=r"none for 'rihgt'.*Did you mean 'right'"):
        policy_dir(f"{tmp_path / 'run'}#rihgt")
    with pytest.raises(DataError, match="is no training run"):
        policy_dir(f"{tmp_path / 'nothing'}#left")
    # a seat that only plays can be one of them
    seats = {"b": {"policy": f"{tmp_path / 'run'}#right"}}
    second = team_config(switch_policy, tmp_path / "next", team={"seats": seats}, trainer={"steps": 1})
    assert train(second).num_steps == 1
    assert policy_dir(str(tmp_path / "next")) == tmp_path / "next/checkpoints/step-000001/model"
    with pytest.raises(DataError, match="one policy for all roles: leave out #left"):
        policy_dir(f"{tmp_path / 'next'}#left")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"rollout": {"workers": "ray"}}, "with rollout.workers=ray"),
        ({"policy": {"path": "vllm:seed"}}, "with vllm:"),
        ({"store": {"replay_share": 0.5, "max_uses": 2}}, "with stored groups"),
        ({"team": {"baseline": "team"}}, "with team.baseline=team"),
        ({"rollout": {"strategy": "reflect_retry"}}, "with rollout.reflect.reflector=self"),
        ({"env": {"id": "tests.light_switch:LightSwitch"}}, "is for several agents"),
        ({"team": {"seats": {"left": {"policy": "random"}, "right": {"policy": "oracle"}}}}, "No seat is trained"),
        (
            {"env": {"id": "tests.trainers.learner.test_per_policy:OracleRole"}},
            "The role 'oracle' cannot name a policy",
        ),
    ],
)
def test_separate_policies_refuse_what_cannot_work(switch_policy, tmp_path, sections, message):
    given = {**sections, "team": {"weights": "separate", **sections.get("team", {})}}
    with pytest.raises(ConfigError, match=message):
        build(team_config(switch_policy, tmp_path, **given))


def test_separate_policies_refuse_several_processes(switch_policy, tmp_path):
    with pytest.raises(ConfigError, match="with several processes: start it without torchrun"):
        build(team_config(switch_policy, tmp_path), ranks=Ranks(size=2, strategy="ddp"))


class OracleRole(TeamSwitch):
    """A role is called as a script is."""

    def role(self, agent: str) -> str:
        return {"a": "oracle", "b": "other"}[agent]
