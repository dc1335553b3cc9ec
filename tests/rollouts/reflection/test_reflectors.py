"""Reflect-then-retry with real policies: one that samples, one in a directory of its own, and one behind HTTP."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import pytest
import torch

from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.loading import save_model
from agentgym_rft.agents.reflect import Outcome, Refusal, parse_report
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.sft import ModelSection
from agentgym_rft.core import Group, StopReason, Trajectory, Turn
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.errors import ConfigError, DataError
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, Observation
from agentgym_rft.rollouts.make import make_reflector
from agentgym_rft.rollouts.reflection.endpoint import EndpointReflector
from agentgym_rft.rollouts.reflection.hindsight import lesson_report, plain_lesson, report_of
from agentgym_rft.rollouts.reflection.reflectors import HindsightReflector
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.learner.scoring import make_scorer, score_rows
from agentgym_rft.trainers.sft.model import build_model
from tests.rollouts.chat_server import chat_server
from tests.rollouts.ladder import CARD, TOKENIZER, Climber, Ladder, play, report, workers

MODEL = ModelSection(
    vocab_size=300, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, head_dim=8, max_context=1024
)
LOSING = ["up", "down", "down", "down"]


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return build_model(MODEL, len(TOKENIZER), seed=0)


def sampled(model, concurrency: int) -> Group:
    """Groups of a random policy whose episodes are retried by hindsight."""
    pool = LocalWorkers(
        Ladder,
        CARD,
        TOKENIZER,
        HFPolicy(model, max_concurrency=concurrency),
        max_concurrency=concurrency,
        max_context=1024,
        reflector=HindsightReflector(),
    )
    return play(pool, size=6, max_steps=3, reflector="hindsight")


def test_the_same_seed_gives_the_same_group_whatever_runs_beside_it(model):
    group = sampled(model, 8)
    assert len(group.trajectories) == 6
    assert len({tuple(turn.action_ids for turn in t.turns) for t in group.trajectories}) > 3
    again = sampled(model, 1)
    assert [replace(t, turns=()) for t in again.trajectories] == [replace(t, turns=()) for t in group.trajectories]
    for one, other in zip(group.trajectories, again.trajectories, strict=True):
        assert [t.action_ids for t in one.turns] == [t.action_ids for t in other.turns]


def test_a_retrys_behaviour_logprobs_are_those_under_its_guidance_and_the_distilled_rows_are_rescored(model):
    pool = LocalWorkers(
        Ladder,
        CARD,
        TOKENIZER,
        HFPolicy(model),
        max_concurrency=4,
        max_context=1024,
        reflector=HindsightReflector(),
    )
    kept = play(pool, max_steps=3, reflector="hindsight", distill=False).trajectories[1]
    distilled = play(pool, max_steps=3, reflector="hindsight").trajectories[1]
    assert [t.action_ids for t in kept.turns] == [t.action_ids for t in distilled.turns]
    assert [t.logprobs for t in kept.turns] == [t.logprobs for t in distilled.turns]

    def drift(trajectory) -> float:
        table, rows = build_table([Group("g", "0", (trajectory,))], 0)
        scores = score_rows(make_scorer(model), rows, table.num_tokens, 4096)
        return float((scores.logprobs - table.columns["behaviour_logprobs"]).abs().max())

    assert drift(kept) < 1e-3
    assert drift(distilled) > 1e-2


def test_a_policy_of_its_own_directory_reflects_and_its_words_are_never_trained(model, tmp_path):
    save_model(tmp_path / "other", model, TOKENIZER)
    card = {"card": str(tmp_path / "card.yaml")}
    (tmp_path / "card.yaml").write_text("name: c\nreflect: {max_tokens: 20, system: Reflect.}\n", encoding="utf-8")
    section = {"strategy": "reflect_retry", "reflect": {"reflector": f"policy:{tmp_path / 'other'}"}}
    config = validate_config({"rollout": section, "agent": card, "policy": {"max_context": 1024}})
    pool = LocalWorkers(
        Ladder,
        CARD,
        TOKENIZER,
        Climber(LOSING, ""),
        max_concurrency=4,
        max_context=1024,
        reflector=make_reflector(config),
    )
    (base,) = play(pool).trajectories
    assert base.info["reflection"]["text"]
    assert base.info["reflection"]["refused"] in {reason.value for reason in Refusal}
    assert 1 <= base.info["reflection"]["tokens"] <= 20


def endpoint(status: int, body: object) -> AbstractContextManager[tuple[str, list[dict]]]:
    """A server on this machine that answers every request alike. Gives its address and the requests."""
    return chat_server(lambda content: (status, body))


def reflected_by(url: str, model: str = "big") -> Group:
    reflector = EndpointReflector(CARD, model, url)
    pool = LocalWorkers(
        Ladder,
        CARD,
        TOKENIZER,
        Climber(LOSING, ""),
        max_concurrency=4,
        max_context=4000,
        reflector=reflector,
    )
    return play(pool)


def test_an_endpoints_report_leads_to_a_retry_and_only_the_retry_is_imitated(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with endpoint(200, {"choices": [{"message": {"content": report(1)}}]}) as (url, requests):
        group = reflected_by(url)
    assert group.trajectories[1].fork_turn == 1
    assert [t.info["kind"] for t in group.auxiliary] == ["guided_retry"]
    (request,) = requests
    assert (request["path"], request["model"], request["key"]) == ("/v1/chat/completions", "big", "Bearer k")
    assert [message["role"] for message in request["messages"]] == ["system", "user"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, {}), (200, {}), (200, []), (200, {"choices": []}), (200, {"choices": [{"message": {"content": 7}}]})],
)
def test_an_endpoint_that_fails_is_a_refused_reflection(status, body):
    with endpoint(status, body) as (url, _):
        (base,) = reflected_by(url).trajectories
    assert base.info["reflection"]["refused"] == "reflector_error"


@pytest.mark.parametrize(
    ("content", "refused"), [("", "no_json"), (None, "no_json"), ([{"type": "text", "text": "{"}], "cut_off")]
)
def test_an_endpoints_reply_without_a_report_is_refused_as_such(content, refused):
    with endpoint(200, {"choices": [{"message": {"content": content}}]}) as (url, _):
        (base,) = reflected_by(url).trajectories
    assert base.info["reflection"]["refused"] == refused


def test_an_endpoint_that_is_not_there_is_a_refused_reflection():
    with endpoint(200, {}) as (url, _):
        pass
    (base,) = reflected_by(url).trajectories
    assert base.info["reflection"]["refused"] == "reflector_error"


@pytest.mark.parametrize("reflector", ["me", "policy:", "openai:gpt", "openai:@http://x", "openai:gpt@"])
def test_a_reflector_of_no_known_kind_is_refused(reflector):
    with pytest.raises(ConfigError, match=r"is none of self, hindsight, policy:DIR, openai:MODEL@URL"):
        validate_config({"rollout": {"reflect": {"reflector": reflector}}})


def test_a_reflector_that_cannot_be_used_is_refused_before_the_first_rollout(tmp_path):
    def config(reflector: str, strategy: str = "reflect_retry"):
        return validate_config({"rollout": {"strategy": strategy, "reflect": {"reflector": reflector}}})

    with pytest.raises(ConfigError, match="is no endpoint"):
        make_reflector(config("openai:m@localhost"))
    with pytest.raises(DataError):
        make_reflector(config(f"policy:{tmp_path}"))
    assert make_reflector(config(f"policy:{tmp_path}", "plain")) is None
    assert make_reflector(config("self")) is None
    assert isinstance(make_reflector(config("hindsight")), HindsightReflector)


@pytest.mark.parametrize(
    ("left", "won", "outcome", "pivot"),
    [
        ([3, 2, 3, 4], False, Outcome.FAILURE, 1),
        ([3, 3, 3], False, Outcome.FAILURE, 0),
        ([1, 2, *range(2, 8), *range(7, -1, -1)], True, Outcome.SUCCESS_BUT_INEFFICIENT, 0),
        ([2, 1, 2, 1, 0], True, Outcome.SUCCESS, None),  # a small detour
        ([2, 1, 0], True, Outcome.SUCCESS, None),
    ],
)
def test_hindsight_is_the_first_turn_after_which_the_way_grew(left, won, outcome, pivot):
    found = report_of(left, partial(plain_lesson, "", ()), won=won)
    assert (found.trajectory_outcome, found.retry_from_step) == (outcome, pivot)


def test_a_report_by_hindsight_is_a_valid_one():
    (base, _) = play(
        LocalWorkers(
            Ladder,
            CARD,
            TOKENIZER,
            Climber(LOSING, ""),
            max_concurrency=4,
            max_context=4000,
            reflector=HindsightReflector(),
        ),
        reflector="hindsight",
    ).trajectories
    assert parse_report(base.info["reflection"]["text"], len(base.turns)) == report_of(
        [3, 2, 3, 3, 3], partial(plain_lesson, "", ()), won=False
    )


def test_hindsight_speaks_in_the_words_of_an_environment_with_lessons():
    section = {"strategy": "reflect_retry", "reflect": {"reflector": "hindsight"}}
    reflector = make_reflector(validate_config({"rollout": section}))
    env = ALFWorldEnv(admissible=False)
    first, info = env.reset(options={"task_id": env.task_ids("train")[0]})
    left, observations, turns = [env.remaining()], [Observation(first, info)], []
    for action in ("look", "inventory"):
        observation, *_, info = env.step(action)
        observations.append(Observation(observation, info))
        left.append(env.remaining())
        turns.append(Turn((1,), (2,), (-0.1,), info={"action": action, "invalid_action": ""}))
    trajectory = Trajectory(info["task_id"], "g", "e", tuple(turns), StopReason.STEP_LIMIT)
    played = EpisodeRecord(trajectory, observations, 0, 0, remaining=left)
    assert asyncio.run(reflector.reflect(played)).report == lesson_report(ALFWorldEnv(), trajectory)
    silent = EpisodeRecord(trajectory, observations, 0, 0)
    assert asyncio.run(reflector.reflect(silent)).report is Refusal.CANNOT_TELL


def test_workers_without_a_reflector_ask_their_own_policy():
    policy = Climber(LOSING, report(1))
    play(workers(policy))
    assert len(policy.prompts["g/0/reflection"]) == 1
