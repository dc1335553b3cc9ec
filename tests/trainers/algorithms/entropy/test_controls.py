"""Entropy controls that drop or weigh tokens, the registry, and the units that controls judge."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError, RegistryError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.entropy import filters as filters
from agentgym_rft.trainers.algorithms.entropy.controls import register_control
from agentgym_rft.trainers.algorithms.entropy.draws import token_draws
from agentgym_rft.trainers.algorithms.entropy.statistics import equal_units, quantile, segment_quantile
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import available_columns, build_table
from tests.trainers.algorithms.entropy.entropy_tables import column, entropy_table
from tests.trainers.tiny import tiny_groups, tiny_model

P, H = [0.7, 0.2, 0.1, 0.9], [0.8, 0.8, 0.8, 0.3]
CONTEXT = Context(step=3, seed=1)
# p = [.7, .2, .1] in turns of one token, of which each is sampled once: S - N of the worked example.
THREE = {"p": [0.7, 0.2, 0.1], "entropy": [0.801819] * 3, "mean_discriminator": [0.170808] * 3}
D = [0.140793, -0.332332, -0.320885]
SIGMA_D = 0.220385


def kept(part, table):
    return part.fn(table, CONTEXT).tolist()


def test_clip_b_on_the_worked_example():
    table = entropy_table([[1]] * 4, p=P, entropy=H, advantage=[-1] * 4)
    assert filters.discriminator(table).tolist() == pytest.approx([0.310328, -0.161888, -0.150259, 0.175176], abs=1e-6)
    assert kept(filters.clip_b(0.95, "negative", "token"), table) == [1, 0, 1, 1]
    assert kept(filters.clip_b(0.95, "both", "token"), table) == [0, 0, 1, 1]  # z = 1.3018, -1.0006, -.9439, .6428
    assert kept(filters.clip_b(1.31, "both", "token"), table) == [1, 1, 1, 1]


def test_the_released_clip_b_keeps_every_token_whose_advantage_is_not_negative():
    table = entropy_table([[1]] * 4, p=P, entropy=H, advantage=[-1, 0, -1, -1])
    assert kept(filters.clip_b(0.95, "negative", "token"), table) == [1, 1, 1, 1]


@pytest.mark.parametrize("sides", ["both", "negative"])
def test_without_a_spread_nothing_is_dropped(sides):
    table = entropy_table([[1]] * 3, p=[0.5] * 3, entropy=[0.7] * 3, mean_discriminator=[0.1] * 3, advantage=[-1] * 3)
    assert kept(filters.clip_b(0.01, sides, "token"), table) == [1, 1, 1]
    assert kept(filters.clip_v(0.01, sides, 1.0, "token"), table) == [1, 1, 1]


def test_clip_v_judges_the_distance_from_the_distributions_own_mean():
    table = entropy_table([[1]] * 3, advantage=[-1] * 3, **THREE)
    assert filters.centred_discriminator(table).tolist() == pytest.approx(D, abs=1e-6)
    # |D| / sigma = .639, 1.508, 1.456; centred it would be 1.413, .733, .681
    assert math.sqrt(sum((d - sum(D) / 3) ** 2 for d in D) / 3) == pytest.approx(SIGMA_D, abs=1e-6)
    assert kept(filters.clip_v(1.0, "both", 1.0, "token"), table) == [1, 0, 0]
    assert kept(filters.clip_v(0.6, "both", 1.0, "token"), table) == [0, 0, 0]
    assert kept(filters.clip_v(0.6, "negative", 1.0, "token"), table) == [1, 0, 0]


def test_the_released_clip_v_drops_the_worst_first_and_never_more_than_its_share():
    table = entropy_table([[1]] * 3, advantage=[-1] * 3, **THREE)
    assert kept(filters.clip_v(1.0, "negative", 1e-4, "token"), table) == [1, 0, 1]  # at least one
    assert kept(filters.clip_v(1.0, "negative", 2 / 3, "token"), table) == [1, 0, 0]
    table = entropy_table([[1]] * 3, advantage=[-1, 1, 0], **THREE)
    assert kept(filters.clip_v(1.0, "negative", 1.0, "token"), table) == [1, 1, 0]


def test_clip_cov_on_the_worked_example():
    table = entropy_table([[1]] * 4, p=[0.9, 0.5, 0.1, 0.2], advantage=[1, -1, 1, -1])
    assert filters.covariance(table).tolist() == pytest.approx([1.072272, -0.484485, -1.124952, 0.431805], abs=1e-6)
    assert kept(filters.clip_cov(2e-4, 1.0, 5.0, "token"), table) == [0, 1, 1, 1]
    assert kept(filters.clip_cov(2e-4, 1.1, 5.0, "token"), table) == [1, 1, 1, 1]
    assert kept(filters.clip_cov(1.0, 0.0, 5.0, "token"), table) == [0, 1, 1, 0]
    assert kept(filters.clip_cov(1.0, 0.0, 1.0, "token"), table) == [1, 1, 1, 0]


def test_clip_cov_chooses_at_random_by_seed_and_step():
    table = entropy_table([[1]] * 40, p=[0.9, 0.1] * 20, advantage=[1, -1] * 20)
    part = filters.clip_cov(0.1, 0.0, 9.0, "token")
    chosen = [part.fn(table, Context(step, seed)) for step, seed in ((0, 0), (0, 0), (1, 0), (0, 1))]
    assert [int(40 - keep.sum()) for keep in chosen] == [4] * 4
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])
    assert not torch.equal(chosen[0], chosen[3])


def test_draws_belong_to_tokens_whatever_the_order_of_groups():
    groups = tiny_groups(tiny_model())
    table, _ = build_table(groups, 0)
    draws = token_draws(table, CONTEXT)
    assert len(set(draws.tolist())) == table.num_tokens
    split = int((table.group == 0).sum() + (table.group == 1).sum())
    reordered, _ = build_table([groups[2], groups[0], groups[1]], 0)
    assert torch.equal(token_draws(reordered, CONTEXT), torch.cat([draws[split:], draws[:split]]))


def test_draws_look_uniform():
    groups = tiny_groups(tiny_model())
    table, _ = build_table(groups, 0)
    draws = torch.stack([token_draws(table, Context(step, 0)) for step in range(200)]).double() / 2**63
    assert float(draws.mean()) == pytest.approx(0, abs=0.03)
    assert float(draws.std()) == pytest.approx(3**-0.5, abs=0.02)


def test_forking_tokens_on_the_worked_example():
    table = entropy_table([[1]] * 5, entropy=[0.1, 0.2, 0.3, 0.4, 2.0])
    assert quantile(column([0.1, 0.2, 0.3, 0.4, 2.0]), 0.8) == pytest.approx(0.72)
    assert kept(filters.forking_tokens(0.2, "token"), table) == [0, 0, 0, 0, 1]
    assert kept(filters.forking_tokens(0.5, "token"), table) == [0, 0, 1, 1, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5), max_size=9), min_size=1, max_size=4), st.floats(0, 1))
def test_quantiles_of_segments_are_those_of_torch(segments, q):
    values = column([value for segment in segments for value in segment])
    key = torch.tensor([at for at, segment in enumerate(segments) for _ in segment], dtype=torch.int64)
    got = segment_quantile(values, key, len(segments), q)
    expected = [float(column(s).quantile(q)) if s else 0.0 for s in segments]
    assert got.tolist() == pytest.approx(expected, abs=1e-6)


def test_steer_on_the_worked_example():
    table = entropy_table([[1]] * 3, p=[0.9, 0.5, 0.1], entropy=[0.5, 1, 1], advantage=[1, 1, -1])
    exponential = filters.steer("exponential", 0.8, 1.2, "token")
    assert kept(exponential, table) == pytest.approx([0.992516, 0.971219, 0.8], abs=1e-6)
    linear = filters.steer("linear", 0.8, 1.2, "token")
    assert kept(linear, table) == pytest.approx([1.2, 1.159761, 0.8], abs=1e-6)


def test_steer_without_a_spread_gives_the_middle_and_tiny_changes_are_left_alone():
    table = entropy_table([[1]] * 2, p=[0.5, 0.5], entropy=[0.7, 0.7], advantage=[0.001, 0.001])
    assert kept(filters.steer("linear", 0.8, 1.2, "token"), table) == pytest.approx([1.0, 1.0])
    assert min(kept(filters.steer("exponential", 0.8, 1.2, "token"), table)) > 0.999


FILTERS = {
    "clip_b": filters.clip_b(0.8, "both", "token"),
    "clip_b negative": filters.clip_b(0.8, "negative", "token"),
    "clip_v": filters.clip_v(0.8, "both", 1.0, "token"),
    "clip_v negative": filters.clip_v(0.8, "negative", 0.3, "token"),
    "clip_cov": filters.clip_cov(0.3, -0.2, 9.0, "token"),
    "forking_tokens": filters.forking_tokens(0.3, "token"),
    "steer": filters.steer("exponential", 0.5, 1.0, "token"),
}
TURN_FILTERS = {
    "clip_b": filters.clip_b(0.8, "both", "turn"),
    "clip_b negative": filters.clip_b(0.8, "negative", "turn"),
    "clip_v": filters.clip_v(0.8, "both", 1.0, "turn"),
    "clip_v negative": filters.clip_v(0.8, "negative", 0.3, "turn"),
    "clip_cov": filters.clip_cov(0.3, -0.2, 9.0, "turn"),
    "forking_tokens": filters.forking_tokens(0.3, "turn"),
    "steer": filters.steer("exponential", 0.5, 1.0, "turn"),
}


def random_table(turns, **more):
    generator = torch.Generator().manual_seed(0)
    number = sum(map(sum, turns))
    p, entropy, n, advantage = torch.rand(4, number, generator=generator, dtype=torch.float64)
    columns = {"p": p, "entropy": 2 * entropy, "mean_discriminator": n, "advantage": 4 * advantage - 2}
    return entropy_table(turns, **{name: values.tolist() for name, values in columns.items()}, **more)


@pytest.mark.parametrize("name", FILTERS)
def test_with_turns_of_one_token_turns_are_judged_as_tokens(name):
    table = random_table([[1, 1, 1], [1, 1], [1, 1, 1, 1, 1]])
    keep = kept(FILTERS[name], table)
    assert keep == kept(TURN_FILTERS[name], table)
    assert 0 < sum(keep) < table.num_tokens


@pytest.mark.parametrize("name", TURN_FILTERS)
def test_a_turn_is_kept_dropped_or_weighed_as_a_whole(name):
    table = random_table([[3, 2, 4], [2, 2], [5, 1, 3, 2, 4]])
    keep = TURN_FILTERS[name].fn(table, CONTEXT)
    assert len(set(keep.tolist())) > 1
    for turn in range(table.num_turns):
        assert len(set(keep[table.turn == turn].tolist())) == 1


def test_turns_are_judged_by_the_sum_of_discriminators_and_the_mean_of_entropies():
    table = entropy_table([[2, 1, 1]], p=P, entropy=H, advantage=[1] * 4)
    # sums .148440, -.150259, .175176: mean .057786, sigma .147524; z .6145, -1.4102, .7957
    assert kept(filters.clip_b(1.0, "both", "turn"), table) == [1, 1, 0, 1]
    table = entropy_table([[2, 1], [1]], entropy=[2.0, 0.0, 0.5, 0.4])
    assert kept(filters.forking_tokens(0.4, "token"), table) == [1, 0, 1, 0]
    assert kept(filters.forking_tokens(0.4, "turn"), table) == [1, 1, 0, 0]  # means 1, .5, .4; limit .7


@pytest.mark.parametrize("name", FILTERS)
def test_auxiliary_tokens_enter_no_statistic(name):
    turns = [[1, 1, 1], [1, 1], [1, 1, 1, 1, 1]]
    table = random_table(turns)
    values = {n: table.columns[n].tolist() for n in ("entropy", "mean_discriminator", "advantage")}
    values["p"] = table.columns["old_logprobs"].exp().tolist()
    outliers = {"p": [1e-3] * 3, "entropy": [9.0] * 3, "mean_discriminator": [-3.0] * 3, "advantage": [-9.0] * 3}
    longer = entropy_table([*turns, [1, 1, 1]], auxiliary=1, **{n: values[n] + outliers[n] for n in values})
    assert kept(FILTERS[name], longer)[:10] == kept(FILTERS[name], table)


def test_only_the_filters_that_say_so_shrink_the_denominator():
    shrinks = {name for name, part in FILTERS.items() if part.shrinks_denominator}
    assert shrinks == {"clip_b", "clip_b negative", "clip_v", "clip_v negative", "forking_tokens"}


def test_equal_units_turn_a_mean_over_tokens_into_one_over_units():
    table = entropy_table([[3, 1], [2]], auxiliary=0)
    values = column([1, 2, 3, 10, 4, 6])
    assert float((equal_units(table, "turn") * values).mean()) == pytest.approx((2 + 10 + 5) / 3)
    assert float((equal_units(table, "trajectory") * values).mean()) == pytest.approx((4 + 5) / 2)
    assert equal_units(table, "token").tolist() == [1] * 6


def built(*controls, **section):
    return build_algorithm(AlgorithmSection(controls=controls, **section))


def test_controls_stack_in_the_order_of_the_recipe():
    algorithm = built(
        {"name": "clip_b", "mu": 2}, "forking_tokens", "entropy_bonus", "target_entropy", entropy_coef=0.1
    )
    assert [part.name for part in algorithm.filters] == ["clip_b", "forking_tokens"]
    assert [term.name for term in algorithm.regularizers] == ["entropy", "entropy_bonus", "target_entropy"]


@pytest.mark.parametrize(
    ("controls", "section", "sentence"),
    [
        (("clip_c",), {}, "Entropy control 'clip_c' is not registered. Did you mean 'clip_"),
        (({"mu": 1},), {}, "An entry of algorithm.controls is {'mu': 1}: expected a name"),
        (({"name": "clip_b", "nu": 1},), {}, "Entropy control 'clip_b' has no option 'nu'."),
        (({"name": "clip_b", "mu": -1},), {}, "Option 'mu' of entropy control 'clip_b' is -1"),
        (({"name": "kl_cov", "percent": 101},), {}, "Option 'percent' of entropy control 'kl_cov' is 101"),
        (("clip_b", {"name": "clip_b"}), {}, "Entropy control 'clip_b' is in algorithm.controls twice; list it once."),
        (("lp_reg",), {"granularity": "turn"}, "Entropy control 'lp_reg' cannot judge a turn: "),
        (("siren",), {"units": {"entropy": "trajectory"}}, "Entropy control 'siren' cannot judge a trajectory: "),
        (({"name": "steer", "w_min": 1, "w_max": 0.5},), {}, "'steer' has w_min 1.0 above w_max 0.5."),
        (({"name": "target_entropy", "low": 1},), {}, "'target_entropy' has low 1.0 above high 0.1."),
        (({"name": "clip_cov", "low": 6},), {}, "'clip_cov' has low 6.0 above high 5.0."),
        (({"name": "epo", "low": 3},), {}, "'epo' has low 3.0 above high 2.0."),
    ],
)
def test_what_cannot_work_is_refused_with_one_sentence(controls, section, sentence):
    with pytest.raises((ConfigError, RegistryError)) as error:
        built(*controls, **section)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_control_whose_column_is_missing_is_refused_by_name():
    with pytest.raises(ConfigError, match="'kl_cov' needs the column 'old_logprobs', which nothing provides"):
        built({"name": "kl_cov"}).validate(available_columns(reference=False) - {"old_logprobs"})


def test_a_taken_name_cannot_be_registered_again():
    with pytest.raises(RegistryError, match="Entropy control 'clip_b' is registered already"):
        register_control("clip_b")(lambda algorithm, options, unit: algorithm)
