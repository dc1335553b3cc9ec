import pytest

from agentgym_rft.errors import DataError
from agentgym_rft.report.intervals import bootstrap_mean
from agentgym_rft.report.paired import compare, comparison_lines, mcnemar, why_incomparable
from tests.report.results import result


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * 1/2
        (5, 0, 0.0625),  # 2 / 2^5
        (8, 2, 0.109375),  # 2 * (1 + 10 + 45) / 2^10
        (2, 8, 0.109375),
        (3, 3, 1.0),  # 2 * 42 / 64, cut at 1
        (10, 1, 0.01171875),  # 2 * (1 + 11) / 2^11
    ],
)
def test_mcnemars_p_is_the_value_worked_by_hand(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == p


def test_mcnemar_of_many_tasks_neither_overflows_nor_leaves_zero_to_one():
    assert 0 < mcnemar(2500, 1500) < 1e-50
    assert mcnemar(2000, 2000) == 1.0


def test_a_comparison_counts_the_tasks_that_one_of_the_two_won_alone():
    a = result("a", [True, True, True, False, None, True])
    b = result("b", [True, False, False, True, True, None])
    found = compare(a, b)
    assert (found.num_tasks, found.num_left_out) == (4, 2)
    assert (found.only_a, found.only_b, found.mcnemar_p) == (2, 1, 1.0)
    assert (found.success_a, found.success_b, found.difference) == (0.75, 0.5, 0.25)
    assert found.difference_ci95 == bootstrap_mean([0.0, 1.0, 1.0, -1.0])
    lines = comparison_lines(found)
    assert lines[:2] == ["A = a: success 75.0 %", "B = b: success 50.0 %"]
    assert lines[2].startswith("A - B: +25.0 points, 95 % interval -50.0 to +100.0 (paired bootstrap over 4 tasks)")
    assert lines[3] == "won by A alone 2, by B alone 1: McNemar's exact p = 1"
    assert lines[4] == "2 tasks ended with an error in one of the two and are left out"


def test_a_comparison_turns_around_with_its_results():
    a, b = result("a", [True] * 12 + [False] * 4), result("b", [True] * 4 + [False] * 12)
    one, other = compare(a, b), compare(b, a)
    assert one.difference == -other.difference == 0.5
    assert one.mcnemar_p == other.mcnemar_p == 2 / 2**8
    assert one.difference_ci95.low > 0 > other.difference_ci95.high


def test_results_with_several_samples_compare_by_their_rates_alone():
    a = result("a", [[True, True], [True, False]], samples=2)
    b = result("b", [[False, True], [False, False]], samples=2)
    found = compare(a, b)
    assert found.difference == 0.5
    assert (found.only_a, found.only_b, found.mcnemar_p) == (None, None, None)
    assert len(comparison_lines(found)) == 3


def test_another_panel_is_refused():
    a, b = result("a", [True, False]), result("b", [True, False], panel="cd" * 32)
    with pytest.raises(
        DataError, match=r"'a' and 'b' cannot be compared: they were played on different panels: ababab"
    ):
        compare(a, b)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"max_steps": 20}, "max_steps is 50 and 20"),
        ({"temperature": 1.0}, "temperature is 0.0 and 1.0"),
        ({"card": "think@1"}, "card is 'plain@0' and 'think@1'"),
        ({"options": {"level": 2}}, "options is {} and {'level': 2}"),
    ],
)
def test_another_protocol_is_refused_and_the_difference_named(change, sentence):
    a, b = result("a", [True, False]), result("b", [True, False], **change)
    with pytest.raises(DataError, match="under different protocols") as refused:
        compare(a, b)
    assert sentence in str(refused.value)


def test_another_number_of_samples_is_refused():
    a, b = result("a", [True, False]), result("b", [[True, True], [False, True]], samples=2)
    assert "samples is 1 and 2" in why_incomparable(a, b)


def test_a_player_without_a_model_compares_with_any_model():
    random = result("random", [False, False], card=None, temperature=None)
    assert why_incomparable(random, result("a", [True, False], temperature=1.0)) is None


def test_results_without_a_common_task_are_refused():
    with pytest.raises(DataError, match="no task ended without an error in both"):
        compare(result("a", [True, None]), result("b", [None, True]))
