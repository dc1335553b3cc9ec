"""Entropy controls in the differentiable part: worked numbers and gradients by finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from agentgym_rft.trainers.algorithms.distribution_stats import kept_mass, nucleus_entropy
from agentgym_rft.trainers.algorithms.entropy import terms as terms
from agentgym_rft.trainers.algorithms.losses import clipped, fixed_bounds, sequence_mean, token_mean
from agentgym_rft.trainers.algorithms.parts import Context
from tests.trainers.algorithms.entropy.entropy_tables import column, entropy_table, loss_inputs

STEP = 1e-6
NUCLEUS = nucleus_entropy(0.8)


def provided(stage, table):
    return stage(table, Context())


def gradient_matches(loss, at):
    """Whether autograd's gradient of `loss` at a vector is that of central differences; returns it."""
    leaf = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf, allow_unused=False)
    for i in range(len(at)):
        move = torch.zeros_like(at)
        move[i] = STEP
        slope = (loss(at + move).sum() - loss(at - move).sum()) / (2 * STEP)
        assert float(gradient[i]) == pytest.approx(float(slope), abs=1e-7)
    return gradient.tolist()


def test_kl_cov_chooses_per_cent_not_shares():
    table = entropy_table([[1]] * 4, p=[0.9, 0.5, 0.1, 0.2], advantage=[1, -1, 1, -1])
    for percent, expected in ((25, [1, 0, 0, 0]), (0.25, [1, 0, 0, 0]), (50, [1, 0, 0, 1]), (99, [1, 1, 0, 1])):
        assert provided(terms.covariant_units(percent, "token"), table).columns["kl_cov"].tolist() == expected


def test_kl_cov_takes_whole_turns_by_the_sum_of_their_covariances():
    table = entropy_table([[2, 1, 1]], p=[0.9, 0.5, 0.1, 0.2], advantage=[1, -1, 1, -1])
    # sums .587787, -1.124952, .431805
    assert provided(terms.covariant_units(34, "turn"), table).columns["kl_cov"].tolist() == [1, 1, 0, 0]


def test_kl_cov_has_no_bounds_and_a_penalty_on_the_chosen_tokens_only():
    old, chosen, advantage = column([-1.0, -1.0, -1.0]), column([1, 0, 0]), column([1.0, 1.0, -1.0])
    given = loss_inputs(column([-0.5, -0.5, -2.0]), old_logprobs=old, kl_cov=chosen, advantage=advantage)
    surrogate = terms.unclipped(clipped(fixed_bounds(0.2, 0.2)))
    loss, is_clipped = surrogate.fn(given)
    assert loss.tolist() == pytest.approx([-math.exp(0.5), -math.exp(0.5), math.exp(-1)])
    assert not is_clipped.any()
    assert terms.covariant_penalty(1.0).fn(given).tolist() == [0.5, 0, 0]

    def total(logprobs):
        inputs = loss_inputs(logprobs, old_logprobs=old, kl_cov=chosen, advantage=advantage)
        return surrogate.fn(inputs)[0] + terms.covariant_penalty(1.0).fn(inputs)

    assert gradient_matches(total, given.logprobs) == pytest.approx([1 - math.exp(0.5), -math.exp(0.5), math.exp(-1)])


def test_the_penalty_of_kl_cov_does_nothing_in_the_first_optimizer_step():
    logprobs = column([-1.0, -1.0 + 1e-6, -1.0 - 1e-6]).requires_grad_()  # up to rounding
    given = loss_inputs(logprobs, old_logprobs=column([-1.0] * 3), kl_cov=column([1.0] * 3))
    (gradient,) = torch.autograd.grad(terms.covariant_penalty(1.0).fn(given).sum(), logprobs)
    assert gradient.tolist() == [0.0] * 3


def test_the_entropy_bonus_is_a_mean_over_units():
    table = entropy_table([[3, 1], [2]])
    now = column([0.1, 0.2, 0.3, 1.0, 0.4, 0.6])
    for unit, expected in (("token", 2.6 / 6), ("turn", (0.2 + 1 + 0.5) / 3), ("trajectory", (0.4 + 0.5) / 2)):
        weight = provided(terms.unit_weights("bonus", unit), table).columns["bonus_weight"]

        def loss(entropy, weight=weight):
            return terms.mean_entropy("bonus", 1.0).fn(loss_inputs(now, bonus_weight=weight, entropy_now=entropy)) / 6

        assert float(loss(now).sum()) == pytest.approx(-expected)
        gradient_matches(loss, now)


def band_loss(unit, table, low=0.5, high=1.5, means=1.0):
    """EPO's penalty as a function of the entropies now, for a mean so far that is the same at every turn."""
    stage = terms.entropy_band(low, high, lambda t: torch.full_like(t.columns["entropy"], means), unit)
    columns = provided(stage, table).columns
    needed = {name: columns[name] for name in ("epo_low", "epo_high", "epo_side")}
    term = terms.outside_band(lambda context: 1.0, unit)
    return lambda entropy: term.fn(loss_inputs(entropy, entropy_now=entropy, **needed))


def test_epo_penalises_the_distance_to_the_band_with_a_gradient():
    table = entropy_table([[1, 1, 1]], entropy=[0.2, 1, 2])
    loss = band_loss("token", table)
    now = table.columns["entropy"]
    assert loss(now).tolist() == pytest.approx([0.3, 0, 0.5])
    assert gradient_matches(loss, now) == [-1, 0, 1]


@pytest.mark.parametrize("unit", ["turn", "trajectory"])
def test_epo_with_units_of_one_token_is_epo_on_tokens(unit):
    lengths = [[1], [1], [1]] if unit == "trajectory" else [[1, 1], [1]]
    table = entropy_table(lengths, entropy=[0.2, 1, 2])
    now = table.columns["entropy"]
    loss = band_loss(unit, table)
    assert loss(now).tolist() == pytest.approx([0.3, 0, 0.5])
    assert gradient_matches(loss, now) == [-1, 0, 1]


def test_epo_judges_a_turn_by_its_mean():
    table = entropy_table([[2, 2]], entropy=[0.1, 1.5, 0.1, 0.3])
    loss = band_loss("turn", table)
    now = table.columns["entropy"]
    assert float(loss(now).mean()) == pytest.approx(0.3 / 2)  # turns of mean .8, inside, and .2, .3 below
    assert gradient_matches(loss, now) == [0, 0, -1, -1]


def test_epo_has_no_band_where_no_step_got_that_far():
    table = entropy_table([[1, 1]], entropy=[0.0, 50.0])
    assert band_loss("token", table, means=torch.nan)(table.columns["entropy"]).tolist() == [0, 0]
    assert band_loss("turn", table, means=torch.nan)(table.columns["entropy"]).tolist() == [0, 0]


def test_the_phase_of_epo_rises_in_the_paper_and_falls_in_the_released_code():
    rising = terms.phase_weight("rising", 0.25, 100)
    assert [rising(Context(step)) for step in (0, 50, 100, 500)] == pytest.approx([0.25, 0.5, 1, 1])
    released = terms.phase_weight("released", 1.0, 150)
    expected = [1, 1 - 0.2 * (1 - math.exp(-2)), 0.8 * math.exp(-0.04), 0.8 * math.exp(-3)]
    assert [released(Context(step)) for step in (0, 75, 76, 150)] == pytest.approx(expected)
    assert terms.phase_weight("constant", 0.25, 10)(Context(3)) == 1


def test_the_nucleus_entropy_of_siren_on_the_worked_example():
    probs = column([0.5, 0.3, 0.15, 0.05])
    assert float(NUCLEUS.fn(probs.log()[None], probs[None])) == pytest.approx(0.661563, abs=1e-6)

    def loss(logits):
        log_probs = logits.log_softmax(-1)[None]
        return NUCLEUS.fn(log_probs, log_probs.exp())

    gradient_matches(loss, column([0.5, 0.35, 0.1, 0.05]).log())  # no sum is at the edge, where it jumps


# Nucleus entropies of two trajectories; peaks above the median of each: 3; 5 and 4. Means 3 and 4.5, together 3.75.
PEAKS = {NUCLEUS.name: [1.0, 2, 3, 1, 5, 2, 4]}
LENGTHS = [[1, 1, 1], [1, 1, 1, 1]]


def test_siren_takes_the_mean_over_peaks_then_over_trajectories():
    table = entropy_table(LENGTHS, **PEAKS)
    weights = terms.peak_weights(table, NUCLEUS.name, 0.5, "token")
    assert weights.tolist() == pytest.approx([0, 0, 0.5, 0, 0.25, 0, 0.25])
    assert terms.peak_entropy(table, NUCLEUS.name, 0.5, "token") == pytest.approx(3.75)
    assert terms.peak_weights(table, NUCLEUS.name, 0.5, "turn").tolist() == weights.tolist()
    flat = entropy_table(LENGTHS, **{NUCLEUS.name: [1.0] * 7})
    assert terms.peak_weights(flat, NUCLEUS.name, 0.5, "token").tolist() == [0] * 7


@pytest.mark.parametrize("aggregation", [token_mean(), sequence_mean()], ids=lambda a: a.name)
@pytest.mark.parametrize("turns", [LENGTHS, [[2, 1], [1, 3]]])
def test_siren_is_the_squared_distance_of_the_peak_entropy_to_its_anchor(aggregation, turns):
    table = entropy_table(turns, **PEAKS)
    now, anchor = table.columns[NUCLEUS.name], 3.0
    prepared = provided(terms.anchored(NUCLEUS.name, 0.5, "turn", aggregation, lambda: anchor), table)
    needed = {name: prepared.columns[name] for name in ("siren_slope", "siren_value", NUCLEUS.name)}
    weights = aggregation.fn(table, table.columns["counted"])
    peaks = terms.peak_weights(table, NUCLEUS.name, 0.5, "turn")

    def loss(values):
        return weights * terms.anchoring(NUCLEUS.name, 1.0).fn(
            loss_inputs(values, **needed, **{f"{NUCLEUS.name}_now": values})
        )

    def square(values):
        return ((peaks * values).sum() - anchor).square()[None]

    assert float(loss(now).sum()) == pytest.approx(float(square(now)))
    leaf = now.clone().requires_grad_()
    (expected,) = torch.autograd.grad(square(leaf).sum(), leaf)
    assert gradient_matches(loss, now) == pytest.approx(expected.tolist())
    assert expected.abs().max() > 0


def test_siren_without_an_anchor_does_nothing():
    table = entropy_table(LENGTHS, **PEAKS)
    prepared = provided(terms.anchored(NUCLEUS.name, 0.5, "token", token_mean(), lambda: None), table)
    assert not prepared.columns["siren_slope"].any()
    assert not prepared.columns["siren_value"].any()


def lp_reg_table(kappa=0.04, advantage=(-1, -1, -1, -1, -1)):
    """Each of five tokens of one distribution sampled once."""
    probs = column([0.6, 0.3, 0.06, 0.03, 0.01])
    mass = float(kept_mass(kappa).fn(probs.log()[None], probs[None]))
    return entropy_table(
        [[1] * 5], p=probs.tolist(), advantage=advantage, max_prob=[0.6] * 5, **{f"kept_mass_{kappa}": [mass] * 5}
    )


def shielded(table, kappa=0.04, share=0.7, among="all"):
    stage = terms.denoised_target(f"kept_mass_{kappa}", kappa, share, among)
    return provided(stage, table).columns


def test_lp_reg_on_the_worked_example():
    assert float(lp_reg_table(0.1).columns["kept_mass_0.1"][0]) == pytest.approx(0.9)
    columns = shielded(lp_reg_table())
    # improbable: below .7 of the way, .6 quantile is .06 to .3; noise: .01 of at most .024
    assert columns["lp_reg"].tolist() == [0, 0, 1, 1, 0]
    assert float(columns["lp_reg_target"][3].exp()) == pytest.approx(0.030303, abs=1e-6)
    assert shielded(lp_reg_table(advantage=(-1, -1, 1, -1, -1)))["lp_reg"].tolist() == [0, 0, 0, 1, 0]
    table = lp_reg_table(advantage=(1, 1, -1, -1, -1))
    assert shielded(table, share=0.4)["lp_reg"].tolist() == [0, 0, 0, 1, 0]
    assert shielded(table, share=0.4, among="negative")["lp_reg"].tolist() == [0, 0, 0, 0, 0]


def test_lp_reg_raises_shielded_tokens_until_they_reach_their_target():
    columns = shielded(lp_reg_table())
    needed = {name: columns[name] for name in ("lp_reg", "lp_reg_target")}
    logprobs = columns["old_logprobs"].clone()
    logprobs[2] = columns["lp_reg_target"][2] + 0.1  # by now above its target

    def loss(values):
        return terms.denoised_kl(1.0).fn(loss_inputs(values, **needed))

    difference = float(logprobs[3] - columns["lp_reg_target"][3])
    expected = math.exp(-difference) + difference - 1
    assert loss(logprobs).tolist() == pytest.approx([0, 0, 0, expected, 0])
    assert gradient_matches(loss, logprobs) == pytest.approx([0, 0, 0, 1 - math.exp(-difference), 0])
    assert 1 - math.exp(-difference) < 0  # descent raises the log-prob


def clip_inputs(logprobs, high_entropy=(1.0, 0.0, 1.0, 1.0)):
    # ratios 1.5, 1.5, .5, 1.1
    old = torch.tensor([1.5, 1.5, 0.5, 1.1], dtype=torch.float64).log().neg()
    return loss_inputs(logprobs, old_logprobs=old, advantage=column([1, 1, -1, 1]), agentic_clip=column(high_entropy))


@pytest.mark.parametrize(
    ("gated", "gradient"), [(False, [-1.28, -1.28, 0, -1.1]), (True, [-1.28, 0, 0, -1.1])], ids=["paper", "gated"]
)
def test_the_agentic_clip_keeps_the_gradient_of_high_entropy_tokens_at_the_upper_bound(gated, gradient):
    inner = clipped(fixed_bounds(0.2, 0.28))
    logprobs = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    loss, is_clipped = terms.preserving_upper(inner, gated=gated).fn(clip_inputs(logprobs))
    assert loss.tolist() == pytest.approx([-1.28, -1.28, 0.8, -1.1])
    assert is_clipped.tolist() == [True, True, True, False]
    (got,) = torch.autograd.grad(loss.sum(), logprobs)
    assert got.tolist() == pytest.approx(gradient)
    (ppo,) = torch.autograd.grad(inner.fn(clip_inputs(logprobs))[0].sum(), logprobs)
    assert ppo.tolist() == pytest.approx([0, 0, 0, -1.1])


def test_high_entropy_is_above_the_mean_of_the_units():
    table = entropy_table([[2, 1, 1]], entropy=[0.9, 0.1, 0.8, 0.1])
    assert provided(terms.uncertain_units("token"), table).columns["agentic_clip"].tolist() == [1, 0, 1, 0]
    assert provided(terms.uncertain_units("turn"), table).columns["agentic_clip"].tolist() == [1, 1, 1, 0]


def test_auxiliary_tokens_enter_no_column_of_a_term():
    values = {NUCLEUS.name: [1.0, 2, 3, 9, 9], "entropy": [1.0, 2, 3, 9, 9], "max_prob": [0.5] * 5}
    mass = {"kept_mass_0.02": [0.9] * 5}
    table = entropy_table([[1, 1, 1], [1, 1]], auxiliary=1, p=[0.1] * 5, advantage=[-1] * 5, **values, **mass)
    assert terms.peak_weights(table, NUCLEUS.name, 0.5, "token").tolist() == [0, 0, 1, 0, 0]
    assert provided(terms.unit_weights("x", "turn"), table).columns["x_weight"].tolist() == [1, 1, 1, 0, 0]
    assert provided(terms.covariant_units(100, "token"), table).columns["kl_cov"].tolist() == [1, 1, 1, 0, 0]
    assert shielded(table, kappa=0.02, share=1.0)["lp_reg"][3:].tolist() == [0, 0]
