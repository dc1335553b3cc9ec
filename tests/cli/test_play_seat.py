"""A person takes one seat among several agents."""

import io

import pytest

from agentgym_rft.cli import main as cli

TEAM = "tests.counting_team:CountingTeam"


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command line in this process: exit code, stdout, stderr."""

    def call(*args, stdin=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = cli.run(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_person_plays_one_seat_with_the_expert_and_reads_only_its_own(run):
    code, out, _ = run("play", "--env", TEAM, "--task", "train-1", "--seat", "seat_1", stdin="?\n2\n4\n")
    assert code == 0
    assert "task train-1. You are seat_1." in out
    assert "train-1: you are seat_1." in out
    assert "you are seat_0" not in out
    assert "2\nwait" in out
    assert "seat_0 says '3'." in out
    assert out.rstrip().endswith("won after 2 turns, score 1.00")


def test_the_other_seats_are_played_by_the_policy_that_is_named(run):
    arguments = ("play", "--env", TEAM, "--seat", "seat_0", "--seed", "0", "--policy")
    assert "won after 2 turns" in run(*arguments, "oracle", stdin="1\n3\n")[1]
    code, out, _ = run(*arguments, "random", stdin="wait\n" * 5)
    assert code == 0
    assert "lost after 5 turns" in out


def test_a_person_leaves(run):
    out = run("play", "--env", TEAM, "--seat", "seat_0", stdin="1\n")[1]
    assert out.rstrip().endswith("left after 1 turns, score 0.50")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--env", TEAM, "--seat", "bob"), "There is no seat 'bob'; give --seat one of seat_0, seat_1."),
        (("--env", TEAM, "--policy", "oracle"), "--policy plays the other seats; give --seat one of seat_0, seat_1."),
        (
            ("--env", "tests.envs.counter_env:CounterEnv", "--seat", "a"),
            "This environment has one agent, so there are no seats: leave out --seat and --policy.",
        ),
    ],
)
def test_wrong_seats_are_refused_with_those_that_there_are(run, arguments, sentence):
    code, out, err = run("play", *arguments)
    assert (code, out, err) == (2, "", sentence + "\n")
