from __future__ import annotations

import copy

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import Group
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.losses import clipped, fixed_bounds, shaped_off_context
from agentgym_rft.trainers.algorithms.parts import LossInputs
from agentgym_rft.trainers.batch.table import build_table
from tests.trainers.tiny import step, tiny_groups, weights
from tests.trainers.turns import advantages, group_of, prepared, turn


def r3l(section=None, **options):
    return build_algorithm(AlgorithmSection(name="r3l", options=options, **(section or {})))


def of_returns(algorithm, *returns):
    return advantages(algorithm, group_of(*([turn(r)] for r in returns)))


def test_amplification_gives_the_vectors_of_the_catalogue():
    assert of_returns(r3l(variant="code"), 1, 0, 0, 0.5) == [1, -0.375, -0.375, 0.375]
    assert of_returns(r3l(scale="none"), 1, 0, 0, 0.5) == [3, -0.375, -0.375, 0.375]


def test_the_papers_equation_divides_by_std_and_its_appendix_gives_the_best_one():
    # Mean .375, sample variance (.625^2 + 2 * .375^2 + .125^2) / 3.
    root = ((0.625**2 + 2 * 0.375**2 + 0.125**2) / 3) ** 0.5 + 1e-6
    rest = [-0.375 / root, -0.375 / root, 3 * 0.125 / root]
    assert of_returns(r3l(), 1, 0, 0, 0.5) == pytest.approx([3, *rest])
    assert of_returns(r3l(variant="appendix"), 1, 0, 0, 0.5) == pytest.approx([1, *rest])


@pytest.mark.parametrize(
    ("variant", "failed", "won", "single_failure", "single_success"),
    [("paper", 0, 0, 0, 0), ("appendix", 0, 1, 0, 1), ("code", 0, 1, 0, 1)],
)
def test_groups_without_contrast_are_never_rewarded_for_failing(variant, failed, won, single_failure, single_success):
    """The literal group-max rule would give alpha to every member of a group that failed entirely."""
    algorithm = r3l(variant=variant)
    assert of_returns(algorithm, 0, 0, 0) == [failed] * 3
    assert of_returns(algorithm, 1, 1, 1) == [won] * 3
    assert of_returns(algorithm, 0) == [single_failure]
    assert of_returns(algorithm, 1) == [single_success]


def test_a_partial_success_alone_is_amplified_by_the_code_and_has_no_contrast_in_the_paper():
    assert of_returns(r3l(variant="code"), 0.5) == [1.5]
    assert of_returns(r3l(), 0.5) == [0]


def test_the_best_of_a_group_that_only_partly_succeeded_is_best_in_the_paper_only():
    assert of_returns(r3l(scale="none"), 0.5, 0) == [3, -0.25]
    assert of_returns(r3l(variant="code"), 0.5, 0) == [0.75, -0.25]


def test_every_part_of_the_amplification_can_be_chosen_or_switched_off():
    assert of_returns(r3l(scale="none", best_value="none", alpha=2), 1, 0) == [1, -0.5]
    assert of_returns(r3l(scale="none", best_value="one"), 1, 0) == [1, -0.5]
    assert of_returns(r3l(scale="none", best_rule="threshold", threshold=0.4), 0.5, 0.5, 0) == pytest.approx(
        [3, 3, -1 / 3]
    )
    assert of_returns(r3l(amplify=False, scale="none"), 1, 0) == [0.5, -0.5]
    grpo = build_algorithm(AlgorithmSection())
    assert of_returns(r3l(amplify=False), 1, 0, 0.5) == of_returns(grpo, 1, 0, 0.5)


PAIR = ([turn(), turn(tokens=2), turn()], [turn(), turn(1, tokens=2)])


def test_turns_before_the_pivot_are_masked_on_base_and_distilled_trajectory():
    group = group_of(*PAIR, [turn(0)], infos=[{"pivot": 1}, {"pivot": 1}, {}])
    table = prepared(r3l(), group)
    assert table.columns["mask"].tolist() == [0, 1, 1, 1, 0, 1, 1, 1]
    assert table.columns["counted"].tolist() == table.columns["mask"].tolist()
    assert prepared(r3l(pivot=False), group).columns["mask"].tolist() == [1] * 8


def test_the_paper_averages_within_trajectories_and_the_code_over_tokens():
    group = group_of(*PAIR, infos=[{"pivot": 1}, {"pivot": 1}])
    table = prepared(r3l(), group)
    counted = table.columns["counted"]
    assert r3l().aggregation.fn(table, counted).tolist() == pytest.approx([0, 1 / 6, 1 / 6, 1 / 6, 0, 1 / 4, 1 / 4])
    assert r3l(variant="code").aggregation.fn(table, counted).tolist() == pytest.approx([0, *[0.2] * 3, 0, 0.2, 0.2])


def with_auxiliary(model):
    """Sampled groups in which an episode of the last one is auxiliary instead of a member."""
    *groups, last = tiny_groups(model)
    split = Group(last.group_id, last.task_id, last.trajectories[:-1], auxiliary=last.trajectories[-1:])
    return [*groups, split]


def token_log_probs(model, table, rows):
    logprobs = torch.zeros(table.num_tokens, dtype=torch.float64)
    for row in rows:
        log_probs = model(torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
        logprobs = logprobs.index_put(
            (torch.from_numpy(row.index),), log_probs[row.positions - 1, row.ids[row.positions]]
        )
    return logprobs


@pytest.mark.parametrize(("variant", "scale"), [("paper", 1.0), ("code", 0.5)])
def test_its_gradient_is_reinforce_plus_the_likelihood_of_auxiliary_samples(model, variant, scale):
    table, rows = build_table(with_auxiliary(model), 0, auxiliary=True)
    algorithm = r3l(variant=variant, auxiliary_coef=0.7)
    gradient, metrics = step(model, table, rows, algorithm)
    ready = prepared(algorithm, *with_auxiliary(model))
    own = copy.deepcopy(model)
    logprobs = token_log_probs(own, table, rows)
    is_auxiliary = table.token_column("auxiliary") > 0
    weight = algorithm.aggregation.fn(table, ready.columns["counted"]) * ready.columns["advantage"]
    loss = -scale * (weight * logprobs).sum() - 0.7 * logprobs[is_auxiliary].mean()
    loss.backward()
    torch.testing.assert_close(gradient, torch.cat([p.grad.flatten() for p in own.parameters()]), rtol=1e-5, atol=1e-8)
    assert metrics["loss/auxiliary"] == pytest.approx(-0.7 * float(logprobs[is_auxiliary].detach().mean()), rel=1e-5)


def test_auxiliary_samples_change_no_advantage_and_can_be_left_out(model):
    groups = with_auxiliary(model)
    alone = [Group(g.group_id, g.task_id, g.trajectories) for g in groups]
    got, expected = advantages(r3l(), *groups), advantages(r3l(), *alone)
    assert got[: len(expected)] == expected
    assert r3l().uses_auxiliary
    assert not r3l(auxiliary_coef=0).uses_auxiliary


def test_the_kl_term_of_the_code_is_the_squared_difference(model, batch):
    table, rows = batch
    section = {"kl_coef": 0.001, "kl_estimator": "k2"}
    table = table.with_columns({"ref_logprobs": table.columns["behaviour_logprobs"] - 0.5})
    metrics = step(model, table, rows, r3l(section, variant="code"))[1]
    assert metrics["loss/kl"] == pytest.approx(0.001 * 0.125, rel=1e-4)


@pytest.mark.parametrize("variant", ["paper", "appendix", "code"])
def test_the_gradient_is_the_finite_difference_of_the_loss(model, variant):
    table, rows = build_table(with_auxiliary(model), 0, auxiliary=True)
    algorithm = r3l(variant=variant)
    gradient, _ = step(model, table, rows, algorithm)
    direction = torch.randn(len(gradient), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    direction /= direction.norm()
    values = []
    for distance in (1e-5, -1e-5):
        moved = copy.deepcopy(model)
        torch.nn.utils.vector_to_parameters(weights(model) + distance * direction, moved.parameters())
        values.append(step(moved, table, rows, algorithm)[1]["loss/total"])
    assert float(gradient @ direction) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_several_minibatches_that_need_no_scoring_first_compare_only_the_log_probs_they_have(model, batch):
    table, rows = batch
    metrics = step(model, table, rows, r3l(), num_minibatches=3, logprob_tolerance=1e-4)[1]
    assert 0 <= metrics["drift/logprob_max"] < 1e-4
    assert metrics["update/num_steps"] > 1


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match="Option 'variant' of algorithm 'r3l' is 'arxiv'"):
        r3l(variant="arxiv")


def test_reflect_grpo_is_grpo_over_attempts_and_retries(model, batch):
    table, rows = batch
    reflect, grpo = (build_algorithm(AlgorithmSection(name=name)) for name in ("reflect_grpo", "grpo"))
    torch.testing.assert_close(step(model, table, rows, reflect)[0], step(model, table, rows, grpo)[0])
    group = group_of([turn(), turn()], [turn(), turn(1, off_context=True)])
    assert advantages(reflect, group) == advantages(grpo, group)


def loss_inputs(logprobs, advantage, off_context):
    logprobs = torch.tensor(logprobs, dtype=torch.float64, requires_grad=True)
    log_ratio = logprobs - logprobs.detach() + 0.4  # ratio 1.49: beyond the upper bound
    columns = {"advantage": torch.tensor(advantage), "off_context": torch.tensor(off_context)}
    return LossInputs(logprobs, log_ratio, log_ratio.detach(), {}, columns)


def test_refinements_have_a_shaped_probability_in_place_of_the_ratio():
    # p = .4, .1, .5: p / (p + .1) = .8, .5, -; slope in log p: gamma p / (p + gamma)^2 = .16, .25.
    logprobs = torch.tensor([0.4, 0.1, 0.5]).log().tolist()
    inputs = loss_inputs(logprobs, [1.0, -2.0, 1.0], [1.0, 1.0, 0.0])
    loss, is_clipped = shaped_off_context(clipped(fixed_bounds(0.2, 0.2)), 0.1).fn(inputs)
    assert loss.tolist() == pytest.approx([-0.8, 1.0, -1.2])
    assert is_clipped.tolist() == [False, False, True]
    loss.sum().backward()
    assert inputs.logprobs.grad.tolist() == pytest.approx([-0.16, 0.5, 0])


def test_the_shaped_gradient_is_the_finite_difference():
    surrogate = shaped_off_context(clipped(fixed_bounds(0.2, 0.2)), 0.3)
    logprobs = torch.tensor([-0.5, -2.0], dtype=torch.float64)
    columns = {"advantage": torch.tensor([1.0, -0.5]), "off_context": torch.ones(2)}

    def loss(logprobs):
        return surrogate.fn(LossInputs(logprobs, logprobs, logprobs.detach(), {}, columns))[0]

    assert torch.autograd.gradcheck(loss, (logprobs.requires_grad_(),))


def test_critique_grpo_shapes_refined_turns_only_and_sums_over_a_constant_length():
    algorithm = build_algorithm(AlgorithmSection(name="critique_grpo", fixed_length=10))
    group = group_of([turn(0)], [turn(), turn(1, off_context=True)])
    assert advantages(algorithm, group) == [-0.5, 0.5, 0.5]
    table = prepared(algorithm, group)
    assert algorithm.aggregation.fn(table, torch.ones(3)).tolist() == pytest.approx([1 / 20] * 3)


def test_critique_grpo_without_refinements_is_dr_grpo(model, batch):
    table, rows = batch
    critique, dr_grpo = (build_algorithm(AlgorithmSection(name=name)) for name in ("critique_grpo", "dr_grpo"))
    torch.testing.assert_close(step(model, table, rows, critique)[0], step(model, table, rows, dr_grpo)[0])
