from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace

import pytest

from agentgym_rft.agents.agent import ChatAgent, chat_format
from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.agents.reflect import Refusal
from agentgym_rft.core import StopReason
from agentgym_rft.envs.alfworld.env import ALFWorldEnv
from agentgym_rft.errors import PolicyError
from agentgym_rft.rollouts.episode.forks import fork
from agentgym_rft.rollouts.reflection.reflectors import HindsightReflector
from agentgym_rft.rollouts.strategies import GroupPlan, reflect_retry
from agentgym_rft.rollouts.workers.local import LocalWorkers
from tests.rollouts.ladder import (
    CARD,
    CARD_DATA,
    SUCCESS,
    TOKENIZER,
    Climber,
    Ladder,
    LadderWithoutSnapshots,
    play,
    reply,
    report,
    spec_for,
    text_of,
    workers,
)

LOSING = ["up", "down", "down", "down"]
NOTE = "An earlier attempt had issues"


def test_a_group_is_the_base_and_its_retry_from_the_pivot():
    group = play(workers(Climber(LOSING, report(1))))
    base, retry = group.trajectories
    assert [turn.info["action"] for turn in base.turns] == LOSING
    assert [turn.info["action"] for turn in retry.turns] == ["up", "up", "up"]
    assert (base.stop_reason, retry.stop_reason) == (StopReason.STEP_LIMIT, StopReason.SUCCESS)
    assert (base.episode_return, retry.episode_return) == (0.0, 1.0)
    assert (retry.parent_id, retry.fork_turn) == (base.episode_id, 1)
    assert (base.info["pivot"], retry.info["pivot"]) == (1, 1)
    assert retry.turns[0] == base.turns[0]
    assert [turn.off_context for turn in retry.turns] == [False, True, True]
    assert [turn.state_key for turn in retry.turns] == ["0.0", "1.1", "2.2"]


@pytest.mark.parametrize(("pivot", "bases"), [(0, 1), (1, 2), (3, 4)])
def test_half_of_the_group_are_bases_and_each_has_at_most_one_retry(pivot, bases):
    group = play(workers(Climber(LOSING, report(pivot))), size=2 * bases)
    assert [t.fork_turn for t in group.trajectories] == [None, pivot] * bases
    assert len({t.episode_id for t in group.trajectories}) == 2 * bases


def test_the_rows_that_are_trained_by_reinforcement_never_show_the_guidance():
    policy = Climber(LOSING, report(1))
    group = play(workers(policy))
    assert all(NOTE in prompt for prompt in policy.prompts["g/0/retry"])
    assert not any(NOTE in text_of(t.turns) for t in group.trajectories)


def test_the_distilled_row_is_what_an_unguided_agent_with_the_same_replies_would_have_seen():
    group = play(workers(Climber(LOSING, report(1))))
    plain = play(workers(Climber(["up", "up", "up"], SUCCESS)))
    assert text_of(group.trajectories[1].turns) == text_of(plain.trajectories[0].turns)
    assert [t.context_ids for t in group.trajectories[1].turns] == [t.context_ids for t in plain.trajectories[0].turns]


@pytest.mark.parametrize("pivot", [1, 2])
def test_the_pivot_observation_appears_once_with_the_guidance_just_before_it(pivot):
    policy = Climber(LOSING, report(pivot))
    play(workers(policy), max_steps=9)
    seen = ["Rung 0 after 0 moves.", "Rung 1 after 1 moves.", "Rung 0 after 2 moves."][pivot]
    prompt = policy.prompts["g/0/retry"][0]
    assert prompt.count(seen) == 1
    assert prompt.count(NOTE) == 1
    assert prompt.endswith(f"do not mention this note.<|user|>{seen}<|assistant|>")
    assert f"<|end|><|system|>{NOTE}" in prompt
    later = policy.prompts["g/0/retry"][1]
    assert later.startswith(prompt)
    assert later.count(seen) == later.count(NOTE) == 1


def test_guidance_before_the_first_turn_ends_the_system_prompt():
    policy = Climber(LOSING, report(0))
    play(workers(policy))
    prompt = policy.prompts["g/0/retry"][0]
    assert prompt.startswith(f"<|system|>Climb.\n\n{NOTE}")
    assert prompt.endswith("note.<|user|>Rung 0 after 0 moves.<|assistant|>")


@pytest.mark.parametrize("pivot", ["1", " 1 ", 1.0])
def test_a_pivot_written_as_text_is_used_as_a_number(pivot):
    group = play(workers(Climber(LOSING, report(pivot))))
    assert group.trajectories[1].fork_turn == 1
    assert group.trajectories[0].info["reflection"]["pivot"] == 1


def test_the_sampled_ids_and_their_logprobs_are_kept_even_if_the_text_would_encode_differently():
    spelled = (*(TOKENIZER.convert_tokens_to_ids(letter) for letter in "up"), TOKENIZER.eos_token_id)
    assert spelled != tuple(reply("up"))

    class Speller(Climber):
        async def sample(self, request):
            completion = await super().sample(request)
            if request.cache_key.endswith("/reflection"):
                return completion
            ids = spelled if completion.ids == tuple(reply("up")) else completion.ids
            return Completion(ids, tuple(-0.1 * (i + 1) for i in range(len(ids))), "stop", 0)

    group = play(workers(Speller(LOSING, report(1))))
    _, guided = group.auxiliary
    for turn, same in zip(group.trajectories[1].turns, guided.turns, strict=True):
        assert tuple(turn.action_ids) == tuple(same.action_ids) == spelled
        assert turn.logprobs == same.logprobs == (-0.1, -0.2, pytest.approx(-0.3))


@pytest.mark.parametrize("make_env", [Ladder, LadderWithoutSnapshots])
def test_a_retry_goes_on_from_the_state_before_the_pivot_however_it_is_reached(make_env):
    group = play(workers(Climber(["up", "down", "up", "down"], report(2)), make_env))
    _, retry = group.trajectories
    assert [turn.state_key for turn in retry.turns] == ["0.0", "1.1", "0.2", "1.3"]
    assert [turn.info["action"] for turn in retry.turns] == ["up", "down", "up", "up"]


class HouseWithoutSnapshots(ALFWorldEnv):
    can_snapshot = False


def test_a_household_is_the_same_after_a_snapshot_as_after_a_replay():
    task_id = ALFWorldEnv().task_ids("train")[0]

    def retry(make_env):
        policy = Climber(["look", "go to cabinet 1", "open cabinet 1", "look"], report(3), ["close cabinet 1", "look"])
        group = play(workers(policy, make_env, max_context=9000), max_steps=5, limits={"task_id": task_id})
        return group.trajectories[1]

    restored, replayed = retry(ALFWorldEnv), retry(HouseWithoutSnapshots)
    assert restored.stop_reason is StopReason.STEP_LIMIT
    assert restored.turns == replayed.turns
    assert restored.info == replayed.info


@pytest.mark.parametrize("make_env", [Ladder, LadderWithoutSnapshots])
def test_replies_without_an_action_are_passed_over_on_the_way_back(make_env):
    group = play(workers(Climber(["up", "", "down", ""], report(3)), make_env), max_steps=6)
    _, retry = group.trajectories
    assert [turn.state_key for turn in retry.turns] == ["0.0", "1.1", "1.1", "0.2", "1.3", "2.4"]
    assert retry.stop_reason is StopReason.SUCCESS


def test_base_and_retry_share_one_step_limit():
    group = play(workers(Climber(LOSING, report(3), ["up"])), max_steps=4)
    base, retry = group.trajectories
    assert len(base.turns) == len(retry.turns) == 4
    assert retry.stop_reason is StopReason.STEP_LIMIT


def test_base_and_retry_go_on_after_a_reply_without_action_and_see_the_same_feedback():
    group = play(workers(Climber(["up", "", "down", "down"], report(1), ["", "up", "up"])))
    base, retry = group.trajectories
    assert base.turns[1].info["invalid_action"] == retry.turns[1].info["invalid_action"] == "empty"
    assert base.turns[2].info["observation"] == retry.turns[2].info["observation"]
    assert base.turns[2].context_ids == retry.turns[2].context_ids


@pytest.mark.parametrize("bad", ["", "jump"])
def test_base_and_retry_end_on_the_same_invalid_actions_where_the_rules_say_so(bad):
    policy = Climber(["up", "down", bad], report(1), [bad, "up", "up"])
    base, retry = play(workers(policy), limits={"stop_invalid": True}).trajectories
    assert (len(base.turns), len(retry.turns)) == (3, 2)
    assert base.stop_reason is retry.stop_reason is StopReason.FAILURE
    assert base.info["stopped"] == retry.info["stopped"] == "invalid action"


def test_repetitions_are_counted_across_the_fork():
    policy = Climber(["up", "down", "down", "down"], report(3), ["down"])
    base, retry = play(workers(policy), limits={"stop_repeated": 3}).trajectories
    assert (len(base.turns), len(retry.turns)) == (4, 4)
    assert base.info["stopped"] == retry.info["stopped"] == "repeated action"


def test_a_penalty_for_invalid_actions_before_the_pivot_is_part_of_the_retrys_return():
    policy = Climber(["jump", "up", "down", "down", "down"], report(2), ["up", "up"])
    base, retry = play(workers(policy), max_steps=5, limits={"invalid_penalty": 0.25}).trajectories
    assert base.rewards == {"env": 0.0, "invalid_action": -0.25}
    assert retry.rewards == {"env": 1.0, "invalid_action": -0.25}
    assert retry.episode_return == sum(turn.reward for turn in retry.turns) == 0.75


def test_a_retry_that_restarted_from_the_first_turn_has_no_pivot():
    base, retry = play(workers(Climber(LOSING, report(2))), restart="start").trajectories
    assert retry.fork_turn == 0
    assert "pivot" not in base.info
    assert "pivot" not in retry.info
    assert all(turn.off_context for turn in retry.turns)


def test_reflect_grpo_retries_from_the_first_turn_and_trains_under_the_guidance():
    policy = Climber(LOSING, report(2))
    group = play(workers(policy), restart="start", distill=False, auxiliary=False)
    base, retry = group.trajectories
    assert retry.stop_reason is StopReason.SUCCESS
    assert len(policy.prompts["g/0/retry"]) == 3
    assert text_of(retry.turns).startswith(f"<|system|>Climb.\n\n{NOTE}")
    assert not any(turn.off_context for turn in retry.turns)
    assert all(turn.trainable for turn in retry.turns)
    assert "pivot" not in {**base.info, **retry.info}
    assert group.auxiliary == ()


def test_critique_grpo_refines_every_episode_and_the_best_joins_without_the_critique():
    words = {"g/0/reflection": report(2), "g/1/reflection": SUCCESS}

    class Two(Climber):
        async def sample(self, request):
            if request.cache_key == "g/1/retry":
                self._retry = ["up", "up", "up"]
            elif request.cache_key == "g/0/retry":
                self._retry = ["down"]
            return await super().sample(request)

    policy = Two(LOSING, lambda key: words[key])
    group = play(
        workers(policy), size=4, restart="start", trigger="always", num_joined=1, auxiliary=False, distill=True
    )
    assert {"g/0/retry", "g/1/retry"} <= set(policy.prompts)
    assert [t.episode_id for t in group.trajectories] == ["g/0", "g/1", "g/1/retry"]
    assert NOTE not in text_of(group.trajectories[2].turns)
    assert group.trajectories[2].won


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("I do not know.", Refusal.NO_JSON),
        ("{" + "x" * 20, Refusal.CUT_OFF),
        ("{'a': 1}", Refusal.BAD_JSON),
        ('{"trajectory_summary": "s"}', Refusal.MISSING_FIELD),
        (report(4), Refusal.PIVOT_OUT_OF_RANGE),
        (report(-1), Refusal.PIVOT_OUT_OF_RANGE),
        (report(True), Refusal.WRONG_TYPE),
        (report(None), Refusal.NO_PIVOT),
        (report(1, trajectory_outcome="lost"), Refusal.UNKNOWN_OUTCOME),
        (report(1, improvement_suggestion=None), Refusal.NO_SUGGESTION),
    ],
)
def test_an_invalid_report_is_refused_with_its_reason_and_the_base_stays(words, reason):
    policy = Climber(LOSING, words)
    group = play(workers(policy))
    (base,) = group.trajectories
    assert base.info["reflection"]["refused"] == reason.value
    assert "pivot" not in base.info
    assert "g/0/retry" not in policy.prompts
    assert group.auxiliary == ()


def test_a_transcript_without_room_is_refused():
    (base,) = play(workers(Climber(LOSING, report(1)), max_context=300)).trajectories
    assert base.info["reflection"]["refused"] == "no_room"


def test_a_failing_reflector_leaves_the_base_as_it_was():
    def fail(key: str) -> str:
        raise PolicyError("out of memory")

    (base,) = play(workers(Climber(LOSING, fail))).trajectories
    assert base.info["reflection"]["refused"] == "reflector_error"
    assert not base.is_error


class Forgetful(LadderWithoutSnapshots):
    """Each episode in one and the same instance looks different."""

    def __init__(self) -> None:
        super().__init__()
        self.episode = 0

    def reset(self, *, seed=None, options=None):
        self.episode += 1
        return super().reset(seed=seed, options=options)

    def see(self):
        return f"{super().see()} Episode {self.episode}."


class Moving(Ladder):
    """What is restored is another state than what was saved."""

    def restore(self, snapshot):
        observation, info = super().restore(snapshot)
        return observation, info | {"state_key": "elsewhere"}


@pytest.mark.parametrize("make_env", [Forgetful, Moving])
def test_a_way_back_that_diverged_is_a_typed_error_and_the_base_stays(make_env):
    group = play(workers(Climber(LOSING, report(1)), make_env))
    base, retry = group.trajectories
    assert retry.stop_reason is StopReason.ENV_ERROR
    assert retry.info["error"]["type"] == "ReplayDiverged"
    assert group.valid == (base,)
    assert "pivot" not in base.info
    assert base.info["reflection"]["retry"] == "env_error"
    assert group.auxiliary == ()


def test_a_retry_whose_policy_fails_leaves_the_base_intact():
    class Failing(Climber):
        async def sample(self, request):
            if request.cache_key.endswith("/retry"):
                raise PolicyError("out of memory")
            return await super().sample(request)

    group = play(workers(Failing(LOSING, report(1))))
    base, retry = group.trajectories
    assert retry.stop_reason is StopReason.POLICY_ERROR
    assert (retry.parent_id, retry.fork_turn) == ("g/0", 1)
    assert group.valid == (base,)
    assert [turn.info["action"] for turn in base.turns] == LOSING
    assert "pivot" not in base.info


def test_a_retry_without_room_for_its_guidance_is_as_if_it_had_not_run():
    card = parse_card(CARD_DATA | {"action": {"max_tokens": 64}})
    policy = Climber(LOSING, report(3, trajectory_summary="x" * 240))
    pool = LocalWorkers(Ladder, card, TOKENIZER, policy, max_concurrency=4, max_context=570)
    (base,) = play(pool).trajectories
    assert base.info["reflection"]["retry"] == "token_limit"
    assert base.info["reflection"]["turns"] == 0
    assert "pivot" not in base.info


def test_an_errored_base_is_repeated_and_not_reflected_on():
    class Failing(Climber):
        async def sample(self, request):
            if request.cache_key == "g/0":
                raise PolicyError("out of memory")
            return await super().sample(request)

    policy = Failing(LOSING, report(1))
    pool = workers(policy)
    group = pool.run(lambda: reflect_retry(GroupPlan(spec_for(pool), 2, max_retries=1), pool))
    assert [t.episode_id for t in group.trajectories] == ["g/0", "g/0.1", "g/0.1/retry"]
    assert [t.is_error for t in group.trajectories] == [True, False, False]
    assert "g/0/reflection" not in policy.prompts


def test_a_retry_that_speaks_of_its_note_is_neither_distilled_nor_imitated():
    policy = Climber(LOSING, report(1), ["As the reflection says: up", "up", "up", "up"])
    group = play(workers(policy), max_steps=6)
    (base,) = group.trajectories
    record = base.info["reflection"]
    assert (record["leaked"], record["improved"], record["verified"]) == (True, True, False)
    assert "pivot" not in base.info
    assert group.auxiliary == ()


def test_the_reflection_and_the_guided_retry_of_a_verified_correction_are_auxiliary():
    policy = Climber(LOSING, report(1))
    group = play(workers(policy))
    reflection, guided = group.auxiliary
    assert text_of(reflection.turns).endswith(report(1) + "<|end|>")
    assert text_of(reflection.turns).startswith("<|system|>Reflect now.<|user|>Instructions: Climb.\n[0] Rung 0")
    assert (reflection.info["kind"], guided.info["kind"]) == ("reflection", "guided_retry")
    assert [turn.trainable for turn in guided.turns] == [False, True, True]
    assert NOTE in text_of(guided.turns[1:])
    assert not any(turn.off_context for turn in guided.turns)
    assert guided.rewards == {"env": 1.0}
    assert {"g/0", "g/0/reflection", "g/0/retry"} <= set(policy.released)


def test_a_retry_that_did_not_improve_joins_but_is_not_imitated():
    group = play(workers(Climber(LOSING, report(1), ["down"])))
    base, retry = group.trajectories
    assert base.info["pivot"] == retry.info["pivot"] == 1
    assert base.info["reflection"]["improved"] is False
    assert group.auxiliary == ()


WON_SLOWLY = ["up", "down", "up", "up", "up"]
SLOW = report(1, trajectory_outcome="success_but_inefficient")


@pytest.mark.parametrize(("rule", "verified"), [("paper", False), ("code", True)])
def test_a_shorter_success_is_a_verified_correction_by_the_released_code_only(rule, verified):
    group = play(workers(Climber(WON_SLOWLY, SLOW)), max_steps=6, verified_rule=rule)
    base, retry = group.trajectories
    assert base.won
    assert retry.won
    assert base.info["reflection"]["verified"] is verified
    assert len(group.auxiliary) == (2 if verified else 0)


def test_a_true_report_of_success_is_kept_and_a_false_one_is_not():
    won = play(workers(Climber(["up"] * 3, SUCCESS)))
    assert [t.info["kind"] for t in won.auxiliary] == ["reflection"]
    assert len(won.trajectories) == 1
    lost = play(workers(Climber(LOSING, SUCCESS)))
    assert lost.auxiliary == ()
    assert lost.trajectories[0].info["reflection"]["refused"] == ""


def test_hindsight_retries_from_the_first_turn_that_led_away_and_samples_no_reflection():
    policy = Climber(LOSING, "")
    pool = LocalWorkers(
        Ladder, CARD, TOKENIZER, policy, max_concurrency=4, max_context=4000, reflector=HindsightReflector()
    )
    group = play(pool, reflector="hindsight")
    assert group.trajectories[1].fork_turn == 1
    assert [t.info["kind"] for t in group.auxiliary] == ["guided_retry"]
    assert "g/0/reflection" not in policy.prompts
    record = group.trajectories[0].info["reflection"]
    assert (record["oracle_pivot"], record["tokens"]) == (1, sum(len(reply("up")) for _ in range(2)))


def test_hindsight_says_so_where_the_environment_cannot_tell():
    class Silent(Ladder):
        def remaining(self):
            return None

    pool = LocalWorkers(
        Silent,
        CARD,
        TOKENIZER,
        Climber(LOSING, ""),
        max_concurrency=4,
        max_context=4000,
        reflector=HindsightReflector(),
    )
    assert play(pool, reflector="hindsight").trajectories[0].info["reflection"]["refused"] == "cannot_tell"


def test_measured_pivots_stand_beside_the_reported_ones():
    group = play(workers(Climber(LOSING, report(3))), measure_pivots=True)
    assert group.trajectories[0].info["reflection"]["oracle_pivot"] == 1
    assert group.trajectories[0].info["reflection"]["pivot"] == 3


def test_a_retry_does_not_wait_for_the_other_bases():
    order: list[str] = []

    class Slow(Climber):
        async def sample(self, request):
            order.append(request.cache_key)
            if request.cache_key == "g/1":
                await asyncio.wait_for(retried.wait(), 10)
            if request.cache_key == "g/0/retry":
                retried.set()
            return await super().sample(request)

    retried = asyncio.Event()
    group = play(workers(Slow(LOSING, report(1))), size=4)
    assert len(group.trajectories) == 4
    assert order.index("g/0/retry") < order.index("g/1/reflection")


def test_reflections_and_retries_are_bounded_by_the_same_places_as_episodes():
    running = [0, 0]  # now, most

    class Slow(Climber):
        async def sample(self, request):
            running[0] += 1
            running[1] = max(running)
            await asyncio.sleep(0)
            running[0] -= 1
            return await super().sample(request)

    play(workers(Slow(LOSING, report(1)), concurrency=3), size=16)
    assert running[1] == 3


def test_a_fork_of_a_turn_that_was_not_played_is_refused():
    pool = workers(Climber(LOSING, report(1)))
    played = pool.run(lambda: pool.record(spec_for(pool)))
    with pytest.raises(ValueError, match="Turn 4 is not in episode g, which has 4 turns"):
        fork(played, 4)


def test_a_fork_without_guidance_goes_on_in_the_same_context():
    pool = workers(Climber(LOSING, report(1)))
    played = pool.run(lambda: pool.record(spec_for(pool)))
    spec = replace(spec_for(pool), episode_id="g/retry")
    again = pool.run(lambda: pool.record(spec, fork(played, 2)))
    assert again.unguided is None
    assert [t.context_ids for t in again.trajectory.turns[:3]] == [t.context_ids for t in played.trajectory.turns[:3]]
    assert [turn.info["action"] for turn in again.trajectory.turns] == ["up", "down", "up", "up"]


@pytest.mark.parametrize("context", [{"strategy": "window", "num_turns": 1}, {"strategy": "notes", "num_turns": 1}])
def test_cards_that_rewrite_the_prompt_show_the_guidance_in_every_turn_and_distil_without_it(context):
    card = parse_card(CARD_DATA | {"context": context})
    policy = Climber(LOSING, report(1))
    pool = LocalWorkers(Ladder, card, TOKENIZER, policy, max_concurrency=4, max_context=4000)
    group = play(pool)
    prompts = policy.prompts["g/0/retry"]
    assert [prompt.count(NOTE) for prompt in prompts] == [1] * len(prompts)
    base, retry = group.trajectories
    assert [turn.restart for turn in retry.turns] == [False, True, True]
    assert retry.turns[1].context_ids == base.turns[1].context_ids
    assert not any(NOTE in text_of(row) for row in retry.rows())


REFUSES_NOTES = TOKENIZER.chat_template.replace(
    "{{ '<|' + message['role']",
    "{%- if message['role'] == 'system' and not loop.first -%}{{ raise_exception('no') }}{%- endif -%}"
    "{{ '<|' + message['role']",
)
DROPS_NOTES = TOKENIZER.chat_template.replace(
    "{{ '<|' + message['role'] + '|>' + message['content'] }}",
    "{%- if message['role'] != 'system' or loop.first -%}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- endif -%}",
)


@pytest.mark.parametrize("template", [REFUSES_NOTES, DROPS_NOTES])
def test_where_the_template_takes_no_note_it_tops_the_users_message(template):
    tokenizer = deepcopy(TOKENIZER)
    tokenizer.chat_template = template
    chat = chat_format(tokenizer, CARD)
    agent = ChatAgent(CARD, chat)
    agent.observe("Rung 0.", {})
    agent.prompt()
    agent.act(chat.reply("up"))
    agent.observe("Rung 1.", {})
    agent.inject("The note.")
    assert tokenizer.decode(list(agent.prompt().row)).endswith("<|end|><|user|>The note.\n\nRung 1.<|assistant|>")
    assert chat.is_growing
