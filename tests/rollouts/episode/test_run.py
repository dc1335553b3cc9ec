from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.core import StopReason, Trajectory
from agentgym_rft.errors import PolicyError
from agentgym_rft.evaluation.panel import EvaluationPlan, evaluate
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.strategies import GroupPlan, plain
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.sft.model import train_tokenizer
from tests.light_switch import LightSwitch

CARD = parse_card({"name": "plain", "action": {"max_tokens": 8}})
TOKENIZER = train_tokenizer(["red", "blue", "Task 12, 2 turns left."] * 3, 300)


def reply(text: str) -> list[int]:
    return [*TOKENIZER.encode(text, add_special_tokens=False), TOKENIZER.eos_token_id]


def workers(
    policy: object, make_env: Callable[[], LightSwitch] = LightSwitch, *, max_context: int = 200, concurrency: int = 4
) -> LocalWorkers:
    return LocalWorkers(make_env, CARD, TOKENIZER, policy, max_concurrency=concurrency, max_context=max_context)


def play(
    pool: LocalWorkers, task_id: str = "1", *, max_steps: int = 5, step_timeout_s: float | None = None
) -> Trajectory:
    spec = EpisodeSpec(
        task_id=task_id,
        group_id="g",
        episode_id="e",
        seed=0,
        temperature=1.0,
        max_steps=max_steps,
        max_context=pool.max_context,
        step_timeout_s=step_timeout_s,
    )
    return pool.run(lambda: pool.play(spec))


def always(text: str) -> ScriptedPolicy:
    return ScriptedPolicy(lambda prompt: reply(text))


def test_a_won_episode_holds_the_sampled_ids_and_its_reward():
    trajectory = play(workers(always("red")))
    assert trajectory.stop_reason is StopReason.SUCCESS
    assert trajectory.rewards == {"env": 1.0}
    assert [list(turn.action_ids) for turn in trajectory.turns] == [reply("red")] * 2
    assert [turn.state_key for turn in trajectory.turns] == ["2", "1"]
    row = [i for turn in trajectory.turns for i in (*turn.context_ids, *turn.action_ids)]
    assert TOKENIZER.decode(row) == (
        "<|user|>Task 1, 2 turns left.<|assistant|>red<|end|><|user|>Task 1, 1 turns left.<|assistant|>red<|end|>"
    )


def test_an_episode_that_ends_by_itself_was_not_stopped_by_a_rule_that_its_last_action_breaks():
    pool = workers(always("red"))
    spec = EpisodeSpec("1", "g", "e", 0, 1.0, 5, 200, stop_repeated=2)
    trajectory = pool.run(lambda: pool.play(spec))
    assert trajectory.stop_reason is StopReason.SUCCESS
    assert "stopped" not in trajectory.info


def test_a_lost_episode_is_a_failure_with_reward_zero():
    trajectory = play(workers(always("blue")))
    assert trajectory.stop_reason is StopReason.FAILURE
    assert trajectory.episode_return == 0.0


def test_unparsable_replies_count_as_turns_and_never_reach_the_environment():
    trajectory = play(workers(always("")), max_steps=3)
    assert trajectory.stop_reason is StopReason.STEP_LIMIT
    assert [turn.info["invalid_action"] for turn in trajectory.turns] == ["empty"] * 3
    assert trajectory.turns[1].info["observation"] == "That was not a valid reply (empty)."


def test_each_invalid_action_costs_its_penalty_apart_from_the_environments_reward():
    replies = iter(["", "red", "red"])
    pool = workers(ScriptedPolicy(lambda prompt: reply(next(replies))))
    spec = EpisodeSpec("1", "g", "e", 0, 1.0, 5, 200, invalid_penalty=0.25)
    trajectory = pool.run(lambda: pool.play(spec))
    assert trajectory.rewards == {"env": 1.0, "invalid_action": -0.25}
    assert [turn.reward for turn in trajectory.turns] == [-0.25, 0.0, 1.0]
    assert trajectory.episode_return == 0.75


def test_a_row_without_room_for_another_action_ends_with_the_token_limit():
    trajectory = play(workers(always("red"), max_context=30))
    assert trajectory.stop_reason is StopReason.TOKEN_LIMIT
    assert not trajectory.is_error
    assert len(trajectory.turns) == 1
    prompt, action = trajectory.info["needed_tokens"]
    assert action == CARD.action.max_tokens
    assert len(trajectory.turns[0].context_ids) < prompt <= 30 < prompt + action


class BadPolicy(ScriptedPolicy):
    """Gives whatever completion it was made with."""

    def __init__(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        super().__init__(lambda prompt: list(ids))
        self._completion = Completion(tuple(ids), tuple(logprobs), "stop", 0)

    async def sample(self, request: SampleRequest) -> Completion:
        return self._completion


@pytest.mark.parametrize(
    ("ids", "logprobs"),
    [((), ()), ((1, 2), (-0.1,)), ((1,), (float("nan"),)), ((1,), (float("-inf"),)), ((1,), (0.5,))],
)
def test_a_malformed_completion_is_a_policy_error(ids, logprobs):
    assert play(workers(BadPolicy(ids, logprobs))).stop_reason is StopReason.POLICY_ERROR


def test_a_policy_that_raises_is_a_policy_error():
    def fail(prompt: Sequence[int]) -> Sequence[int]:
        raise PolicyError("out of memory")

    trajectory = play(workers(ScriptedPolicy(fail)))
    assert trajectory.stop_reason is StopReason.POLICY_ERROR
    assert trajectory.info["error"]["message"] == "out of memory"


@pytest.mark.parametrize("measures", [{"joint": "much"}, {"joint": None}, ["joint"], 3])
def test_measures_that_are_no_numbers_are_an_error_of_the_environment(measures):
    class Lying(LightSwitch):
        def _info(self):
            return {**super()._info(), "measures": measures}

    trajectory = play(workers(always("red"), Lying))
    assert trajectory.stop_reason is StopReason.ENV_ERROR
    assert trajectory.info["error"]["type"] == "EnvError"
    assert "measures" in trajectory.info["error"]["message"]


def test_an_environment_that_hangs_ends_with_a_timeout():
    class Hanging(LightSwitch):
        def step(self, action):
            threading.Event().wait()

    pool = workers(always("red"), Hanging)
    assert play(pool, step_timeout_s=0.05).stop_reason is StopReason.TIMEOUT


def test_the_environment_of_an_errored_episode_is_closed_and_not_used_again():
    made: list[Counting] = []

    class Counting(LightSwitch):
        def __init__(self):
            super().__init__("step")
            self.is_closed = False
            made.append(self)

        def close(self):
            self.is_closed = True

    pool = workers(always("red"), Counting)
    for task_id in ("1", "2", "3", "4"):
        play(pool, task_id)
    assert [env.is_closed for env in made] == [True, False]
    pool.close()
    assert all(env.is_closed for env in made)


def test_no_more_episodes_run_at_once_than_allowed():
    running = [0, 0]  # now, most

    class Slow(ScriptedPolicy):
        async def sample(self, request):
            running[0] += 1
            running[1] = max(running)
            await asyncio.sleep(0)
            running[0] -= 1
            return await super().sample(request)

    pool = workers(Slow(lambda prompt: reply("red")), concurrency=3)
    played = evaluate(pool, EvaluationPlan([str(i) for i in range(10)], 0.0, 0, 5))
    assert [t.task_id for t in played] == [str(i) for i in range(10)]
    assert running[1] == 3


@pytest.mark.parametrize(("task_id", "attempts"), [("1", 1), ("3", 3)])
def test_errored_members_are_repeated_and_every_attempt_is_kept(task_id, attempts):
    pool = workers(always("red"), lambda: LightSwitch("step"))
    base = EpisodeSpec(task_id, "g", "g", 0, 1.0, 5, 200)
    group = pool.run(lambda: plain(GroupPlan(base, 2, max_retries=2), pool))
    assert len(group.trajectories) == 2 * attempts
    assert len({t.episode_id for t in group.trajectories}) == 2 * attempts
    assert len(group.valid) == (2 if attempts == 1 else 0)
