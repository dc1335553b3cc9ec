"""Players without tokens: scripts of the environment, random play, chat endpoints; every failure has its type."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest

from agentgym_rft.agents.card import parse_card
from agentgym_rft.core import StopReason, Trajectory
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import ConfigError, EnvError
from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate
from agentgym_rft.evaluation.players import EndpointPlayer, at_endpoint, check_script, named_endpoint, text_workers
from agentgym_rft.rollouts.episode.players import MakePlayer, scripted
from agentgym_rft.rollouts.reflection.endpoint import ChatEndpoint
from tests.envs.counted_env import Counted
from tests.envs.counter_env import CounterEnv
from tests.light_switch import LightSwitch
from tests.rollouts.chat_server import chat_server, said

CARD = parse_card({"name": "tags", "system": "Count.", "action": {"grammar": "tags", "max_tokens": 9}})
TASKS = ("valid_unseen-0", "valid_unseen-1", "valid_unseen-2")


def played(
    make_env, make_player: MakePlayer, tasks=TASKS, *, max_steps: int = 10, temperature: float = 0.0, **plan
) -> list[Trajectory]:
    workers = text_workers(make_env, make_player, max_concurrency=4)
    trajectories = evaluate(workers, EvaluationPlan(tasks, temperature, 0, max_steps, **plan))
    workers.close()
    return trajectories


@pytest.mark.parametrize("kind", ["oracle", "expert"])
def test_a_script_of_the_environment_plays_without_tokens(kind):
    for trajectory, task_id in zip(played(Counted, scripted(kind)), TASKS, strict=True):
        assert (trajectory.task_id, trajectory.stop_reason) == (task_id, StopReason.SUCCESS)
        assert [turn.info["action"] for turn in trajectory.turns] == ["up"] * 3
        assert [turn.info["observation"] for turn in trajectory.turns][1] == f"{task_id}: the counter shows 1."
        assert all(not turn.action_ids and not turn.trainable for turn in trajectory.turns)
        assert trajectory.episode_return == 1.0
        assert trajectory.info["task_type"] in ("even", "odd")


def test_the_oracle_and_the_expert_win_alfworld_and_the_oracle_needs_fewer_turns():
    tasks = ALFWorldEnv().task_ids("valid_unseen")[:6]
    oracle = played(ALFWorldEnv, scripted("oracle"), tasks, max_steps=50)
    expert = played(ALFWorldEnv, scripted("expert"), tasks, max_steps=50)
    assert all(t.won for t in [*oracle, *expert])
    assert sum(len(t.turns) for t in oracle) < sum(len(t.turns) for t in expert)


def test_alfworlds_oracle_is_a_shortest_way_from_any_state():
    env = ALFWorldEnv(admissible=False)
    observation, _ = env.reset(options={"task_id": env.task_ids("train")[3]})
    env.step("look")
    left, won, oracle = env.remaining(), False, env.oracle()
    for _ in range(left):
        assert not won
        observation, _, won, _, _ = env.step(oracle.act(observation))
    assert won


def test_alfworlds_players_refuse_where_they_cannot_play():
    with pytest.raises(EnvError, match=r"backend='engine', then reset"):
        ALFWorldEnv().oracle()
    with pytest.raises(EnvError, match="call reset first"):
        ALFWorldEnv().random_player(np.random.default_rng(0))


def test_random_picks_among_the_admissible_actions_and_depends_on_the_seed_alone():
    def actions(workers_seed):
        plan = EvaluationPlan(TASKS, 1.0, workers_seed, 10, samples=2)
        trajectories = evaluate(text_workers(CounterEnv, scripted("random"), max_concurrency=4), plan)
        return [[turn.info["action"] for turn in t.turns] for t in trajectories]

    first = actions(0)
    assert first == actions(0)
    assert first != actions(1)
    assert len(first) == 6
    assert {action for episode in first for action in episode} == {"up", "down"}


def test_random_takes_the_environments_own_player_where_info_lists_nothing():
    (trajectory,) = played(
        lambda: ALFWorldEnv(admissible=False), scripted("random"), ALFWorldEnv().task_ids("train")[:1]
    )
    assert trajectory.stop_reason is StopReason.STEP_LIMIT
    assert not any(turn.info["invalid_action"] for turn in trajectory.turns)
    assert len({turn.info["action"] for turn in trajectory.turns}) > 3


def test_random_without_admissible_actions_is_refused_as_the_policys_error():
    (trajectory,) = played(LightSwitch, scripted("random"), ("1",))
    assert trajectory.stop_reason is StopReason.POLICY_ERROR
    assert "lists no admissible actions" in trajectory.info["error"]["message"]


def test_an_environment_without_the_script_is_refused():
    check_script("expert", LightSwitch(), "lights")
    check_script("random", LightSwitch(), "lights")
    for kind in ("oracle", "expert"):
        with pytest.raises(ConfigError, match=f"Environment 'counter' has no {kind} that could play it"):
            check_script(kind, CounterEnv(), "counter")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("reset", "ValueError"), ("step", "ZeroDivisionError"), ("nan", "EnvError"), ("score", "EnvError")],
)
def test_a_broken_environment_is_an_env_error_and_the_others_are_played(fault, kind):
    broken, good = played(lambda: LightSwitch(fault), scripted("expert"), ("3", "4"))
    assert broken.stop_reason is StopReason.ENV_ERROR
    assert broken.info["error"]["type"] == kind
    assert broken.rewards == {}
    assert not good.is_error


def test_a_script_that_gives_up_is_the_policys_error():
    class GivesUp(CounterEnv):
        def oracle(self):
            raise EnvError("No plan wins.")

    assert {t.stop_reason for t in played(GivesUp, scripted("oracle"))} == {StopReason.POLICY_ERROR}


def test_every_environment_that_hangs_times_out_and_the_rest_is_played():
    class Hangs(Counted):
        def step(self, action):
            if self.task_id.startswith("train"):
                threading.Event().wait()
            return super().step(action)

        def close(self):
            if self.task_id == "train-1":
                threading.Event().wait()
            if self.task_id == "train-2":
                raise OSError("gone")

    tasks = [f"train-{n}" for n in range(4)] * 3 + list(TASKS)
    trajectories = played(Hangs, scripted("oracle"), tasks, step_timeout_s=0.2)
    assert [t.stop_reason for t in trajectories] == [StopReason.TIMEOUT] * 12 + [StopReason.SUCCESS] * 3
    assert trajectories[0].info["error"]["message"] == "no answer within 0.2 s"


def at(url: str, retries: int = 0) -> MakePlayer:
    endpoint = ChatEndpoint("big", url, retries=retries, backoff_s=0.0)

    async def make(env, observation, spec):
        return EndpointPlayer(endpoint, CARD, spec)

    return make


def test_an_endpoint_is_prompted_by_the_card_and_its_replies_are_played(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with chat_server(lambda body: said("<action>up</action>", prompt_tokens=7, completion_tokens=2)) as (url, asked):
        (trajectory,) = played(CounterEnv, at(url), TASKS[:1], temperature=0.5)
    assert trajectory.won
    assert [turn.info["sampled_tokens"] for turn in trajectory.turns] == [2, 2, 2]
    assert [turn.info["context_tokens"] for turn in trajectory.turns] == [7, 7, 7]
    first, _, third = asked
    assert (first["model"], first["path"], first["key"]) == ("big", "/v1/chat/completions", "Bearer k")
    assert (first["temperature"], first["max_tokens"]) == (0.5, 9)
    assert first["messages"] == [
        {"role": "system", "content": "Count."},
        {"role": "user", "content": "valid_unseen-0: the counter shows 0."},
    ]
    assert [message["role"] for message in third["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
    assert len({request["seed"] for request in asked}) == 3


def test_a_reply_without_an_action_is_answered_by_the_card_and_counts_as_invalid():
    replies = iter(["I think", *["<action>up</action>"] * 3])
    with chat_server(lambda body: said(next(replies))) as (url, asked):
        (trajectory,) = played(CounterEnv, at(url), TASKS[:1])
    assert [turn.info["invalid_action"] for turn in trajectory.turns] == ["no_action", "", "", ""]
    assert asked[1]["messages"][-1]["content"] == "That was not a valid reply (no_action)."
    assert trajectory.won


@pytest.mark.parametrize(
    "message",
    [
        {"content": ""},
        {"content": None},
        {},
        {"content": []},
        {"content": None, "reasoning_content": "<action>up</action>"},
        {"content": None, "tool_calls": [{"function": {"name": "up", "arguments": "{}"}}]},
        {"content": None, "refusal": "I will not."},
        {"content": [{"type": "refusal", "refusal": "<action>up</action>"}]},
        {"content": [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": None}, 7]},
    ],
)
def test_a_reply_without_text_is_one_without_an_action_and_no_error(message):
    with chat_server(lambda body: (200, {"choices": [{"message": message}]})) as (url, asked):
        trajectories = played(CounterEnv, at(url, retries=2), TASKS[:1], max_steps=2)
    assert [t.stop_reason for t in trajectories] == [StopReason.STEP_LIMIT]
    assert [turn.info["invalid_action"] for turn in trajectories[0].turns] == ["no_action"] * 2
    assert len(asked) == 2
    assert asked[1]["messages"][-2:] == [
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "That was not a valid reply (no_action)."},
    ]


def test_the_text_parts_of_a_reply_are_joined_and_thoughts_left_out():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "<action>down</action>"}]},
        {"type": "text", "text": "<action>u"},
        {"type": "text", "text": "p</action>"},
    ]
    with chat_server(lambda body: (200, {"choices": [{"message": {"content": parts}}]})) as (url, _):
        (trajectory,) = played(CounterEnv, at(url), TASKS[:1])
    assert trajectory.won
    assert trajectory.turns[0].info["text"] == "<action>up</action>"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_thought_that_the_endpoint_tells_apart_belongs_to_the_reply(field):
    card = parse_card({"name": "think", "action": {"grammar": "tags", "think": True}})
    replies = iter([("<action>up</action>", "Up {it} goes."), (None, "Up and"), *[("<action>up</action>", "Up.")] * 2])

    def answer(body):
        content, thought = next(replies)
        return 200, {"choices": [{"message": {"content": content, field: thought}}]}

    with chat_server(answer) as (url, asked):
        (trajectory,) = played(CounterEnv, at_endpoint(named_endpoint(f"openai:m@{url}"), card), TASKS[:1])
    assert trajectory.won
    assert [turn.info["invalid_action"] for turn in trajectory.turns] == ["", "no_action", "", ""]
    assert {"role": "assistant", "content": "<action>up</action>"} in asked[-1]["messages"]


def test_a_request_that_may_pass_is_repeated_and_no_more_often_than_allowed():
    statuses = iter([503, 429, 200, 200, 200])

    def answer(body):
        status = next(statuses)
        return said("<action>up</action>") if status == 200 else (status, {"error": "busy"})

    with chat_server(answer) as (url, asked):
        (trajectory,) = played(CounterEnv, at(url, retries=2), TASKS[:1])
    assert trajectory.won
    assert len(asked) == 5
    with chat_server(lambda body: (503, {"error": "busy"})) as (url, asked):
        (trajectory,) = played(CounterEnv, at(url, retries=2), TASKS[:1])
    assert trajectory.stop_reason is StopReason.POLICY_ERROR
    assert trajectory.info["error"]["message"].startswith("The endpoint gave no reply: HTTP 503 Service Unavailable")
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((400, {"error": "too long"}), 'HTTP 400 Bad Request: {"error": "too long"}'),
        ((200, []), "expected JSON with choices[0].message, got []"),
        ((200, None), "expected JSON with choices[0].message, got null"),
        ((200, {"choices": []}), 'expected JSON with choices[0].message, got {"choices": []}'),
        ((200, {"choices": [{"text": "up"}]}), 'expected JSON with choices[0].message, got {"choices": [{"text": "up"'),
        ((200, {"choices": [{"message": None}]}), "expected JSON with choices[0].message, got"),
        ((200, {"choices": [{"message": {"content": 7}}]}), "expected a text as content of its message, got 7"),
    ],
)
def test_a_request_that_cannot_pass_is_not_repeated(answer, message):
    with chat_server(lambda body: answer) as (url, asked):
        (trajectory,) = played(CounterEnv, at(url, retries=2), TASKS[:1])
    assert trajectory.stop_reason is StopReason.POLICY_ERROR
    assert message in trajectory.info["error"]["message"]
    assert len(asked) == 1


def test_what_the_temperature_leaves_is_sampled_from_whole():
    with chat_server(lambda body: said("<action>up</action>")) as (url, asked):
        played(CounterEnv, at(url), TASKS[:1])
    sent = {name: asked[0][name] for name in ("top_p", "top_k", "min_p", "repetition_penalty")}
    assert sent == {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


def test_a_server_that_refuses_a_field_of_sampling_is_asked_without(caplog):
    def answer(body):
        if "top_k" in body:
            return 400, {"error": "Unrecognized request argument supplied: top_k"}
        return said("<action>up</action>")

    with chat_server(answer) as (url, asked), caplog.at_level(logging.WARNING):
        (trajectory,) = played(CounterEnv, at(url), TASKS[:1])
    assert trajectory.won
    assert ["top_k" in body for body in asked] == [True, *[False] * (len(asked) - 1)]
    assert caplog.text.count("The endpoint takes no top_p, top_k, min_p, repetition_penalty") == 1


def test_a_redirect_takes_no_key_to_another_address(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with (
        chat_server(lambda body: said("<action>up</action>")) as (other, asked_there),
        chat_server(lambda body: (302, {}), headers={"Location": f"{other}/chat/completions"}) as (url, asked),
    ):
        (trajectory,) = played(CounterEnv, at(url), TASKS[:1])
    assert (len(asked), asked_there) == (1, [])
    assert trajectory.info["error"]["message"].startswith("The endpoint gave no reply: HTTP 302 Found")


def test_an_endpoint_that_is_not_there_is_the_policys_error():
    with chat_server(lambda body: said("")) as (url, _):
        pass
    (trajectory,) = played(CounterEnv, at(url, retries=1), TASKS[:1])
    assert trajectory.stop_reason is StopReason.POLICY_ERROR
    assert "refused" in trajectory.info["error"]["message"]


@pytest.mark.parametrize("policy", ["openai:gpt", "openai:gpt@localhost:80", "openai:@http://localhost"])
def test_an_endpoint_of_another_form_is_refused(policy):
    with pytest.raises(ConfigError, match=r"is no endpoint\. Write openai:MODEL@URL"):
        named_endpoint(policy)


def test_the_default_environment_has_no_players():
    with pytest.raises(EnvError, match="TextEnv has no oracle"):
        TextEnv().oracle()
    assert TextEnv().random_player(np.random.default_rng(0)) is None
