from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context, LossInputs, Stage
from agentgym_rft.trainers.algorithms.regularizers import value_loss
from agentgym_rft.trainers.batch.table import available_columns
from agentgym_rft.trainers.learner.scoring import make_scorer
from agentgym_rft.trainers.loop import train
from tests.trainers.test_loop import assert_equal_weights, switch_config
from tests.trainers.tiny import scored, step, trained_weights, weights
from tests.trainers.turns import group_of, prepared, turn


def ppo(section=None, **options):
    return build_algorithm(AlgorithmSection(name="ppo", options=options, **(section or {})))


def test_values_are_read_at_the_first_token_of_each_turn_and_shared_by_all_its_tokens():
    # Values .2, .6 at first tokens; gamma = lambda = .5. d = [0 + .5 * .6 - .2, 1 - .6] = [.1, .4]; A = [.2, .4].
    group = group_of([turn(0, tokens=2), turn(1, tokens=2)])
    value = torch.tensor([0.2, 9, 0.6, 9])
    table = prepared(ppo({"gamma": 0.5}, gae_lambda=0.5, whiten=False), group, value=value)
    assert table.columns["advantage"].tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4])
    assert table.columns["value_target"].tolist() == pytest.approx([0.4, 0.4, 1.0, 1.0])
    assert table.columns["turn_start"].tolist() == [1, 0, 1, 0]


def test_advantages_are_whitened_over_turns_whatever_their_length():
    group = group_of([turn(1, tokens=3)], [turn(0)], [turn(2)])
    table = prepared(ppo(), group, value=torch.zeros(5))
    assert table.columns["advantage"].tolist() == pytest.approx([0, 0, 0, -1, 1], abs=1e-6)


def test_auxiliary_turns_enter_neither_whitening_nor_the_value_loss():
    group = group_of([turn(1)], [turn(0)], auxiliary=[turn(50)])
    table = prepared(ppo(), group, value=torch.zeros(3))
    assert table.columns["advantage"][:2].tolist() == pytest.approx([0.5**0.5, -(0.5**0.5)])
    assert table.columns["turn_start"].tolist() == [1, 1, 0]


def test_equal_advantages_give_no_gradient():
    table = prepared(ppo(), group_of([turn(1)], [turn(1)]), value=torch.zeros(2))
    assert table.columns["advantage"].tolist() == [0, 0]


def inputs(value, before, target):
    columns = {"value": torch.tensor(before), "value_target": torch.tensor(target)}
    none = torch.zeros(len(before))
    return LossInputs(none, none, none, {"value": value}, columns)


def test_the_clipped_value_loss_is_the_larger_of_two():
    # V = 1, before 0, target 1: free loss 0, bounded (.2 - 1)^2. V = -1, target 1: free 4, bounded (-.2 - 1)^2.
    value = torch.tensor([1.0, -1.0], requires_grad=True)
    loss = value_loss(0.5, 0.2).fn(inputs(value, [0.0, 0.0], [1.0, 1.0]))
    assert loss.tolist() == pytest.approx([0.64, 4.0])
    loss.sum().backward()
    assert value.grad.tolist() == [0, -4]  # it gains nothing from going further than the range
    assert value_loss(0.5, None).fn(inputs(value, [0.0, 0.0], [1.0, 1.0])).tolist() == [0, 4]


@pytest.mark.parametrize("options", [{}, {"value_clip": 0.05, "value_coef": 2.0, "whiten": False}])
def test_the_gradient_is_the_finite_difference_for_body_and_head(model, batch, options):
    table, rows = batch
    algorithm = ppo(**options)
    # Advantages, targets and values before the update are constants of a step, so they are held while weights move.
    held = dict(algorithm.prepare(scored(model, table, rows, algorithm), Context()).columns)
    held["value"] = held["value"] + 0.1 * torch.rand(table.num_tokens, generator=torch.Generator().manual_seed(1))
    names = frozenset({"advantage", "value_target", "turn_start", "value"})
    stage = Stage("held", lambda table, context: {name: held[name] for name in names}, frozenset({"value"}), names)
    algorithm = replace(algorithm, advantage=stage, ratio=replace(algorithm.ratio, anchor="behaviour_logprobs"))
    trained = trained_weights(copy.deepcopy(model), algorithm)
    gradient, metrics = step(trained, table, rows, algorithm)
    assert metrics["loss/value"] > 0
    direction = torch.randn(len(gradient), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    direction /= direction.norm()
    values = []
    for distance in (1e-5, -1e-5):
        moved = copy.deepcopy(trained)
        torch.nn.utils.vector_to_parameters(weights(trained) + distance * direction, moved.parameters())
        values.append(step(moved, table, rows, algorithm)[1]["loss/total"])
    assert float(gradient @ direction) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_a_run_without_a_critic_cannot_be_ppo():
    with pytest.raises(ConfigError, match="'ppo': 'critic_advantage' needs the column 'value'"):
        ppo().validate(available_columns(reference=True))


def test_a_model_with_logits_of_its_own_cannot_have_a_critic(model):
    class Scaled(type(model)):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            output.logits = output.logits / 2
            return output

    scaled = copy.deepcopy(model)
    scaled.__class__ = Scaled
    with pytest.raises(ConfigError, match="A critic needs a model whose logits"):
        make_scorer(scaled, value_head=torch.nn.Linear(16, 1))


def ppo_config(policy, out, **trainer):
    data = json.loads(switch_config(policy, out, **trainer).model_dump_json())
    return validate_config(data | {"algorithm": {"name": "ppo", "options": {"value_clip": 0.5}}})


def test_ppo_learns_the_switch_and_its_critic_the_return(switch_policy, tmp_path):
    result = train(ppo_config(switch_policy, tmp_path / "run", steps=20))
    before, after = result.evaluations[0], result.evaluations[-1]
    assert after["success"] > before["success"] + 0.3
    losses = [row["loss/value"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert sum(losses[-5:]) < sum(losses[:5]) / 2


def test_a_resumed_run_has_its_value_head_back(switch_policy, tmp_path):
    train(ppo_config(switch_policy, tmp_path / "whole", steps=4))
    train(ppo_config(switch_policy, tmp_path / "parts", steps=2))
    train(ppo_config(switch_policy, tmp_path / "parts", steps=4), resume=tmp_path / "parts")
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")
    heads = []
    for name in ("whole", "parts"):
        dcp_to_torch_save(tmp_path / name / "checkpoints/step-000004/trainer", tmp_path / f"{name}.pt")
        heads.append(torch.load(tmp_path / f"{name}.pt", weights_only=True))
    assert heads[0]["extra/value_head/weight"].abs().max() > 0
    for part in ("weight", "bias"):
        assert torch.equal(*(head[f"extra/value_head/{part}"] for head in heads))
