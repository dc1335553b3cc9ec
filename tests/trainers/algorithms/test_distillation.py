"""On-policy distillation: numbers by hand, identities, gradients, and a run that learns from a teacher."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch

from agentgym_rft.agents.policies.loading import load_model, save_model
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.distillation import coarsened, divergence, linear, teacher_divergence
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.scoring import make_scorer
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.run import build
from tests.trainers.test_loop import switch_config
from tests.trainers.tiny import step, tiny_groups, tiny_model, weights
from tests.trainers.turns import group_of, prepared, turn

KINDS = ("reverse", "forward", "jsd")


def logs(*probs: float) -> torch.Tensor:
    return torch.tensor([probs], dtype=torch.float64).log()


def build_opd(name: str = "opd", **options):
    return build_algorithm(AlgorithmSection(name=name, options=options))


def test_divergences_of_two_coins():
    """Policy (1/2, 1/2), teacher (1/4, 3/4), with ln 2 and ln 3 by hand."""
    policy, teacher = logs(0.5, 0.5), logs(0.25, 0.75)
    two, three = math.log(2), math.log(3)
    assert float(divergence("reverse", policy, teacher)) == pytest.approx(two - three / 2)
    assert float(divergence("forward", policy, teacher)) == pytest.approx(3 / 4 * three - two)
    mixed = [math.log(3 / 8), math.log(5 / 8)]
    to_teacher = 0.25 * (math.log(1 / 4) - mixed[0]) + 0.75 * (math.log(3 / 4) - mixed[1])
    to_policy = 0.5 * (-two - mixed[0]) + 0.5 * (-two - mixed[1])
    assert float(divergence("jsd", policy, teacher)) == pytest.approx((to_teacher + to_policy) / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_divergence_is_0_between_equals_and_positive_otherwise(kind):
    policy, teacher = torch.randn(2, 50, 7, dtype=torch.float64).log_softmax(-1)
    assert (divergence(kind, policy, teacher) > 0).all()
    torch.testing.assert_close(divergence(kind, policy, policy), torch.zeros(50, dtype=torch.float64))


def test_a_teacher_that_rules_tokens_out_gives_finite_forward_and_jensen_shannon_divergences():
    policy, teacher = logs(0.5, 0.25, 0.25), torch.tensor([[0.0, -math.inf, -math.inf]], dtype=torch.float64)
    assert float(divergence("forward", policy, teacher)) == pytest.approx(math.log(2))
    assert math.isfinite(divergence("jsd", policy, teacher))


@pytest.mark.parametrize("kind", KINDS)
def test_the_likeliest_tokens_and_one_for_all_others_never_say_more_than_all(kind):
    policy, teacher = torch.randn(2, 40, 9, dtype=torch.float64).log_softmax(-1)
    exact = divergence(kind, policy, teacher)
    found = [teacher_divergence(kind, 0.5, k).fn(policy, policy.exp(), teacher) for k in (1, 3, 6, 8)]
    assert all((coarse <= fine + 1e-12).all() for coarse, fine in pairwise([*found, exact]))
    torch.testing.assert_close(found[-1], exact)
    for side in coarsened(policy, teacher, policy, 3):
        torch.testing.assert_close(side.exp().sum(-1), torch.ones(40, dtype=torch.float64))


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return tiny_model()


@pytest.fixture(scope="module")
def batch(model):
    return build_table(tiny_groups(model), 0)


@pytest.mark.parametrize("options", [{"divergence": kind, "top_k": k} for kind in KINDS for k in (None, 4)])
def test_the_gradient_is_that_of_the_loss(model, batch, options):
    algorithm = build_opd(**options)
    gradient, metrics = step(model, *batch, algorithm)
    assert metrics["loss/teacher"] > 0
    assert metrics["loss/policy"] == 0
    direction = torch.randn(len(gradient), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction /= direction.norm()
    sides = []
    for distance in (1e-5, -1e-5):
        moved = tiny_model()
        torch.nn.utils.vector_to_parameters(weights(model) + distance * direction, moved.parameters())
        sides.append(step(moved, *batch, algorithm)[1]["loss/teacher"])
    assert float(gradient @ direction) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_a_policy_learns_nothing_from_itself(model, batch, monkeypatch):
    monkeypatch.setattr("tests.trainers.tiny.teacher_scorer", lambda layout: make_scorer(copy.deepcopy(model)))
    for kind in KINDS:
        gradient, metrics = step(model, *batch, build_opd(divergence=kind))
        assert float(gradient.abs().max()) < 1e-12
        assert metrics["loss/teacher"] == pytest.approx(0, abs=1e-12)


def test_forward_divergence_to_a_teacher_that_is_sure_is_imitation():
    """A teacher that gives all its mass to the sampled token has the loss and the gradient of `sft`."""
    log_probs = torch.randn(30, 23, dtype=torch.float64, requires_grad=True)
    sampled = torch.randint(23, (30,))
    sure = torch.full_like(log_probs.detach(), -math.inf)
    sure[torch.arange(len(sampled)), sampled] = 0.0
    own = log_probs.log_softmax(-1)
    (by_teacher,) = torch.autograd.grad(divergence("forward", own, sure).sum(), log_probs, retain_graph=True)
    (by_imitation,) = torch.autograd.grad(-own[torch.arange(len(sampled)), sampled].sum(), log_probs)
    torch.testing.assert_close(by_teacher, by_imitation)


def test_the_sampled_estimate_is_the_gain_of_the_teacher():
    """ln teacher - ln policy; with scale 1.25 and start -2.0 by the source's vector: -(.5 - 1.25) = .75."""
    columns = {"teacher_logprobs": [-1.0], "old_logprobs": [-1.5], "ref_logprobs": [-2.0]}
    given = {name: torch.tensor(column) for name, column in columns.items()}
    for scale, expected in ((1.0, 0.5), (1.25, 0.75)):
        algorithm = build_opd(divergence="sampled", scale=scale)
        table = prepared(algorithm, group_of([turn(1.0)]), **given)
        assert table.columns["advantage"].tolist() == pytest.approx([expected])
        assert algorithm.needs_reference is (scale != 1)


def test_the_ratio_of_trust_region_ratio_distillation_is_to_a_mixture():
    """Policy .3, old .2, teacher .6, alpha 1/2: sqrt(1.5 * .5) = .866025; with alpha 1 it is GRPO's."""
    columns = {"teacher_logprobs": torch.full((2,), math.log(0.6)), "old_logprobs": torch.full((2,), math.log(0.2))}
    group = group_of([turn(1.0)], [turn()])
    anchor = prepared(build_opd("trrd", alpha=0.5), group, **columns).columns["mixture_logprobs"]
    assert (math.log(0.3) - anchor).exp().tolist() == pytest.approx([0.866025] * 2, rel=1e-5)
    same = prepared(build_opd("trrd", alpha=1.0), group, **columns).columns["mixture_logprobs"]
    assert same.tolist() == columns["old_logprobs"].tolist()


def test_without_the_old_policy_in_question_trrd_is_grpo(model, batch):
    trrd, grpo = build_opd("trrd", alpha=1.0), build_algorithm(AlgorithmSection(name="grpo"))
    torch.testing.assert_close(step(model, *batch, trrd)[0], step(model, *batch, grpo)[0])


def test_kdrl_is_grpo_plus_beta_times_the_gain(model, batch):
    """At ratio 1 its gradient is that of the advantage A + beta (ln teacher - ln policy)."""
    grpo = step(model, *batch, build_algorithm(AlgorithmSection(name="grpo")))[0]
    gain = step(model, *batch, build_opd(divergence="sampled"))[0]
    torch.testing.assert_close(step(model, *batch, build_opd("kdrl", beta=0.1))[0], grpo + 0.1 * gain)


def test_the_weight_of_the_teacher_falls_in_a_line():
    assert [linear(0.2, 0.1, 10)(Context(step=n)) for n in (0, 5, 10, 99)] == pytest.approx([0.2, 0.15, 0.1, 0.1])


def switch(policy, out, algorithm, **trainer):
    data = switch_config(policy, out, **trainer).model_dump()
    return validate_config(data | {"algorithm": algorithm})


@pytest.fixture(scope="module")
def teacher(switch_policy, tmp_path_factory):
    """A policy that GRPO taught to switch the light on."""
    return train(switch_config(switch_policy, tmp_path_factory.mktemp("teacher") / "run", steps=12)).run_dir


def test_a_run_learns_from_a_teacher(switch_policy, teacher, tmp_path):
    algorithm = {"name": "opd", "teacher": str(teacher)}
    result = train(switch(switch_policy, tmp_path / "run", algorithm, steps=8))
    rows = read_metrics(result.run_dir / "metrics.jsonl")
    assert rows[-1]["loss/teacher"] < 0.5 * rows[0]["loss/teacher"]
    assert result.evaluations[-1]["success"] > result.evaluations[0]["success"] + 0.2


def test_a_teacher_of_another_vocabulary_is_refused(switch_policy, tmp_path):
    model, tokenizer = load_model(switch_policy)
    tokenizer.add_tokens(["<another>"])
    model.resize_token_embeddings(len(tokenizer))
    save_model(tmp_path / "other", model, tokenizer)
    with pytest.raises(DataError, match="has another vocabulary than the policy"):
        build(switch(switch_policy, tmp_path / "run", {"name": "opd", "teacher": str(tmp_path / "other")}))


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ({"name": "opd"}, "'opd' learns from another policy: name one with algorithm.teacher"),
        ({"name": "grpo", "teacher": "seed"}, "algorithm.teacher is for an algorithm that learns from one"),
    ],
)
def test_a_teacher_and_an_algorithm_that_needs_one_go_together(switch_policy, tmp_path, algorithm, message):
    with pytest.raises(ConfigError, match=message):
        build(switch(switch_policy, tmp_path / "run", algorithm))
