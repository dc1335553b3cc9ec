"""The environment keeps the contract, is won by looking where the keys are, and lost by hesitating."""

from lost_keys import MAX_STEPS

from agentgym_rft.envs import check_env, make_env

ENV = "lost_keys:LostKeys"


def play(actions, **options):
    env = make_env(ENV, options)
    env.reset(options={"task_id": "seed-5"})
    return [env.step(action) for action in actions]


def keys_of(task_id):
    env = make_env(ENV)
    env.reset(options={"task_id": task_id})
    return env.env.keys


def test_it_keeps_the_contract():
    check_env(ENV)


def test_looking_where_the_keys_are_wins():
    observation, reward, terminated, truncated, info = play([f"go to {keys_of('seed-5')}", "look"])[-1]
    assert observation == "The keys!"
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["won"], info["score"]) == (True, 1.0)


def test_hesitating_loses():
    outcomes = play(["hm"] * MAX_STEPS)
    assert [truncated for *_, truncated, _ in outcomes] == [False] * (MAX_STEPS - 1) + [True]
    assert all(info["invalid_action"] for *_, info in outcomes)
    assert outcomes[-1][-1]["score"] == 0.0
