from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError, RegistryError
from agentgym_rft.trainers.algorithms import build_algorithm, register_algorithm
from agentgym_rft.trainers.algorithms.parts import Context, Stage, TokenFilter
from agentgym_rft.trainers.batch.groups import has_signal
from agentgym_rft.trainers.batch.table import available_columns, build_table
from tests.trainers.tiny import fixed_groups


def build(**section):
    return build_algorithm(AlgorithmSection(**section))


def test_an_unknown_algorithm_is_refused_with_the_closest_name():
    with pytest.raises(RegistryError, match=r"Algorithm 'grop' is not registered\. Did you mean 'grpo'\?"):
        build(name="grop")


def test_an_unknown_option_is_refused_with_the_closest_name():
    with pytest.raises(ConfigError, match=r"'grpo' has no option 'scales'. Did you mean 'scale'\?"):
        build(options={"scales": "std"})
    with pytest.raises(ConfigError, match=r"'rloo' has no option 'scale'\. It has none"):
        build(name="rloo", options={"scale": "std"})


@pytest.mark.parametrize("value", ["stdd", None, 1])
def test_an_unknown_value_of_an_option_is_refused_with_the_choices(value):
    with pytest.raises(ConfigError, match="should be 'std' or 'none'"):
        build(options={"scale": value})


def test_a_name_can_be_registered_only_once():
    with pytest.raises(RegistryError, match=r"'grpo' is registered already, as agentgym_rft\.trainers\.[\w.]+:grpo\."):
        register_algorithm("grpo")(lambda section, options: build_algorithm(section))


def test_a_missing_input_is_refused_by_name_before_anything_runs():
    algorithm = build(kl_coef=0.1)
    assert algorithm.needs_reference
    algorithm.validate(available_columns(reference=True))
    with pytest.raises(ConfigError, match="'grpo': 'kl' needs the column 'ref_logprobs'"):
        algorithm.validate(available_columns(reference=False))


def test_a_modulator_may_use_what_an_earlier_part_provides():
    def double(table, context):
        return {"advantage": 2 * table.columns["advantage"]}

    def boost(table, context):
        return {"advantage": table.columns["boost"] + table.columns["advantage"]}

    grpo = build(options={"scale": "none"})
    advantage_transform = Stage("double", double, frozenset({"advantage"}), frozenset({"advantage"}))
    table, _ = build_table(fixed_groups([[1, 0]]), 0)
    algorithm = replace(grpo, advantage_transforms=(advantage_transform,))
    algorithm.validate(available_columns(reference=False))
    assert algorithm.prepare(table, Context()).columns["advantage"].tolist() == [1, -1]
    lacking = replace(
        grpo, advantage_transforms=(Stage("boost", boost, frozenset({"boost"}), frozenset({"advantage"})),)
    )
    with pytest.raises(ConfigError, match="'boost' needs the column 'boost'"):
        lacking.validate(available_columns(reference=False))


def test_a_stage_must_provide_what_it_declares():
    stage = Stage("liar", lambda table, context: {}, frozenset(), frozenset({"advantage"}))
    table, _ = build_table(fixed_groups([[1, 0]]), 0)
    with pytest.raises(ValueError, match="'liar' declares"):
        stage(table, Context())


@pytest.mark.parametrize(("shrinks", "counted"), [(True, [1, 0, 1]), (False, [1, 1, 1])])
def test_a_filter_says_whether_the_denominator_shrinks(shrinks, counted):
    table, _ = build_table(fixed_groups([[1, 0, 0]]), 0)
    keep = TokenFilter("second", lambda table, context: torch.tensor([1.0, 0, 1]), frozenset(), shrinks)
    prepared = replace(build(), filters=(keep,)).prepare(table, Context())
    assert prepared.columns["mask"].tolist() == [1, 0, 1]
    assert prepared.columns["counted"].tolist() == counted


def test_a_group_of_one_is_refused_where_a_baseline_needs_others():
    with pytest.raises(ConfigError, match="group_size of at least 2, not 1"):
        build().validate(available_columns(reference=False), group_size=1)


def test_coefficients_of_zero_leave_their_terms_out():
    assert build().regularizers == ()
    assert [term.name for term in build(kl_coef=0.1, entropy_coef=-0.01).regularizers] == ["kl", "entropy"]


def test_grpo_and_dr_grpo_differ_in_scale_and_aggregation():
    table, _ = build_table(fixed_groups([[1, 0]], [[1, 3]]), 0)
    grpo, dr_grpo = build(), build(name="dr_grpo", fixed_length=8)
    assert grpo.prepare(table, Context()).columns["advantage"][0].item() == pytest.approx(0.5**0.5, rel=1e-5)
    assert dr_grpo.prepare(table, Context()).columns["advantage"].tolist() == [0.5, -0.5, -0.5, -0.5]
    assert dr_grpo.aggregation.fn(table, torch.ones(4)).tolist() == pytest.approx([1 / 16] * 4)


def test_a_group_has_signal_if_its_returns_differ():
    assert [has_signal(group) for group in fixed_groups([[1, 0], [1, 1], [0, 0], [1]])] == [True, False, False, False]
