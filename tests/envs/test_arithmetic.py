"""Arithmetic: the verifier, the problems and their answers, episodes."""

import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym_rft.envs.arithmetic.env import ArithmeticEnv, Calculator
from agentgym_rft.envs.arithmetic.expressions import evaluate
from agentgym_rft.envs.arithmetic.problems import LEVELS, make_problem, problem, solve, task_ids
from agentgym_rft.envs.arithmetic.stories import STORIES
from agentgym_rft.envs.arithmetic.verifier import read_answer
from agentgym_rft.errors import ConfigError, EnvError

RIGHT = {
    "42": 42,
    "42.0": 42,
    "042": 42,
    "+42": 42,
    "#### 42": 42,
    "6 * 7 = 42\n#### 42": 42,
    "#### $1,234.50 dollars": Fraction(2469, 2),
    r"\boxed{42}": 42,
    r"First 6, then 7, so \boxed{42}.": 42,
    r"\boxed{\frac{6}{8}}": Fraction(3, 4),
    r"-\dfrac{1}{2}": Fraction(-1, 2),
    r"\boxed{42} and #### 7": 42,
    "The answer is 42.": 42,
    "x = -42": -42,
    "x = \u221242": -42,
    "**42**": 42,
    "42%": 42,
    "42 apples": 42,
    "60km": 60,
    "3/4": Fraction(3, 4),
    "3 / 4": Fraction(3, 4),
    "-3/4": Fraction(-3, 4),
    ".5": Fraction(1, 2),
    "5.": 5,
    "4.2e1": 42,
    "1e-2": Fraction(1, 100),
    "$1,000,000$": 1_000_000,
    "42, that is 42.0": 42,
    r"\boxed{42} \boxed{42}": 42,
}
WRONG = [
    "",
    "no idea",
    "42 or 43",
    r"\boxed{42} or \boxed{43}",
    "#### 42\n#### 43",
    "6 * 7 = 42",
    r"\boxed{}",
    "42\n####",
    "5-3",
    "--5",
    r"--\frac{1}{2}",
    r"3\frac{1}{2}",
    "1/0",
    "1/2/3",
    "1,2",
    "1,00",
    "1.2.3",
    "10^2",
    "2**3",
    "0x2A",
    "\u0664\u0662",
    "nan",
    "inf",
    "1e400",
    "1e-400",
    "1e99999999999",
    "9" * 61,
    "0." + "3" * 61,
]


@pytest.mark.parametrize(("text", "value"), RIGHT.items())
def test_answers_are_read_exactly(text, value):
    assert read_answer(text) == value


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_single_number_is_no_answer(text):
    assert read_answer(text) is None


@given(st.fractions(max_denominator=10**6).filter(lambda value: abs(value.numerator) < 10**40))
def test_every_fraction_is_read_back_in_every_form(value):
    text = str(value)
    sign = "-" if value < 0 else ""
    tex = rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    for form in (text, f"#### {text}", rf"\boxed{{{text}}}", f"It is {text}.", tex, rf"\boxed{{{tex}}}"):
        assert read_answer(form) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_decimals_are_read_with_and_without_separators(value):
    assert read_answer(f"{value:f}") == read_answer(f"{value:,f}") == Fraction(value)


@given(st.text(st.sampled_from("0123456789.,/+-eE \n{}\\#$xfracboxd") | st.characters(), max_size=60))
def test_any_text_is_read_without_an_error(text):
    value = read_answer(text)
    assert value is None or abs(value) < 10**180


PIECES = ["9", "1 ", "1a", "-", "{", "####", "1,", "1/", "1 /", "e9", "."]
PIECES += ["\\boxed{", "\\boxed{1}", "\\boxed{x", "\\frac{", "\\frac{1}{2}"]


@pytest.mark.parametrize("piece", PIECES)
def test_a_million_characters_are_read_in_linear_time(piece):
    """Quadratic work on this many characters would take hours: the test is that it ends."""
    value = read_answer(piece * (1_000_000 // len(piece)))
    assert value in (None, 1, Fraction(1, 2))


@pytest.mark.parametrize("level", LEVELS)
def test_answers_agree_with_a_second_calculation(level):
    for seed in range(300):
        made = make_problem(level, seed)
        text, answer = made.text, made.answer
        assert solve(text) == answer
        if text.startswith("Compute "):
            exact = re.sub(r"(\d+)", r"Fraction(\1)", text.removeprefix("Compute ").removesuffix("."))
            assert eval(exact) == answer
        elif text.startswith("Solve for x: "):
            left, right = re.sub(r"(\d+)([x(])", r"\1*\2", text.removeprefix("Solve for x: ").removesuffix(".")).split(
                " = "
            )
            assert eval(left, {"x": answer}) == eval(right, {"x": answer})
        else:
            assert answer.denominator == 1
            assert answer > 0


def test_stories_worked_by_hand():
    told = {
        "Ana has 12 cards and buys 30 more. How many cards does Ana have now?": 42,
        "Ben shares 84 books equally among 2 friends. How many books does each friend get?": 42,
        "Gita buys 10 stamps for 4 coins each and sells them for 50 percent more. How many coins is the profit?": 20,
        "A tank holds 90 litres. A pump fills in 12 litres a minute while 3 litres a minute leak out. "
        "After how many minutes is the empty tank full?": 10,
        "A train goes 120 kilometres in 2 hours, stops for 1 hours, and goes on at twice the speed for 3 hours. "
        "How many kilometres does it go in all?": 480,
    }
    assert {text: solve(text) for text in told} == told
    assert solve("What is the time?") is None
    assert solve("Compute the time.") is None
    assert {story.level for story in STORIES} == {3, 5}


@pytest.mark.parametrize("text", ["", "1 +", "2 ** 9", "1 / 0", "f(2)", "1.5", "True"])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ValueError):
        evaluate(text)


def test_a_scripted_win_and_a_scripted_loss():
    env = ArithmeticEnv(level=4)
    task_id = env.task_ids("test")[0]
    right = problem(task_id).answer
    observation, info = env.reset(options={"task_id": task_id})
    assert observation.endswith(info["goal"])
    assert (info["won"], info["score"], info["task_type"]) == (False, 0.0, "level-4")
    observation, reward, terminated, truncated, info = env.step(f"So it is \\boxed{{{right}}}.")
    assert (observation, reward, terminated, truncated) == ("The answer is right.", 1.0, True, False)
    assert (info["won"], info["score"], info["invalid_action"]) == (True, 1.0, False)
    with pytest.raises(EnvError, match="reset"):
        env.step("again")
    env.reset(options={"task_id": task_id})
    _, reward, terminated, _, info = env.step(str(right + 1))
    assert (reward, terminated, info["won"], info["invalid_action"]) == (0.0, True, False, False)
    env.reset(options={"task_id": task_id})
    observation, reward, terminated, _, info = env.step("I do not know.")
    assert observation == "The answer is wrong. There was no single number in the reply."
    assert (reward, terminated, info["won"], info["invalid_action"]) == (0.0, True, False, True)


def test_a_level_can_be_chosen_and_all_take_turns():
    assert Counter(id.split("/")[1] for id in task_ids("test", LEVELS)[:50]) == {
        f"level-{level}": 10 for level in LEVELS
    }
    assert {id.split("/")[1] for id in ArithmeticEnv(level=2).task_ids("train")} == {"level-2"}
    assert len(ArithmeticEnv().task_ids("train")) == 5000
    with pytest.raises(ConfigError, match="level is 6"):
        ArithmeticEnv(level=6)


def test_the_expert_is_right_and_at_rate_noise_off_by_one():
    env = ArithmeticEnv()
    rewards = {0.0: 0.0, 1.0: 0.0}
    for noise in rewards:
        for task_id in env.task_ids("test")[:100]:
            observation, _ = env.reset(options={"task_id": task_id})
            rewards[noise] += env.step(env.expert(observation, np.random.default_rng(0), noise).act(observation))[1]
    assert rewards == {0.0: 100.0, 1.0: 0.0}
    with pytest.raises(EnvError, match="problem"):
        Calculator().act("Hello.")
