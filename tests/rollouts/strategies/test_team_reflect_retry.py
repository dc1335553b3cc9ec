from __future__ import annotations

import json

import pytest

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.routed import RoutedPolicy
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.agents.reflect import Refusal
from agentgym_rft.config.load import validate_config
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.core import StopReason
from agentgym_rft.envs.multi_agent import TeamTaskEnv
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.errors import PolicyError
from agentgym_rft.rollouts.reflection.reflectors import HindsightReflector
from agentgym_rft.rollouts.seats import AgentSpec
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.groups import by_seat
from agentgym_rft.trainers.batch.table import build_table
from agentgym_rft.trainers.loop import train
from agentgym_rft.trainers.metrics import generation_metrics
from tests.rollouts.ladder import CARD, SUCCESS, TOKENIZER, play, reply, report, text_of

CHAT = chat_format(TOKENIZER, CARD)
NOTE = "An earlier attempt had issues"
LOSING = {"a": ["up", "up", "down"], "b": ["down", "down", "down"]}


class TeamLadder(TeamTaskEnv):
    """Two agents in turn on one ladder; its third rung wins, which is worth 1 to both."""

    snapshot_kind = "team-ladder-0"

    def __init__(self, split="train", max_steps=20):
        super().__init__(["a", "b"], split, max_steps, {})
        self.rung = self.moves = 0

    def role(self, agent):
        return f"climber {agent}"

    def task_ids(self, split):
        self.check_split(split)
        return ["0", "1"]

    def task_content(self, task_id):
        return task_id.encode()

    def remaining(self):
        return 3 - self.rung

    def _begin(self, task_id):
        self.rung = self.moves = 0
        for agent in self.possible_agents:
            self.tell(agent, f"You are {agent}. Rung 0 after 0 moves.")
        return "a"

    def _act(self, agent, action):
        self.moves += 1
        if action not in ("up", "down"):
            self.refuse(agent)
        else:
            self.rung = max(self.rung + (1 if action == "up" else -1), 0)
        for each in self.possible_agents:
            self.tell(each, f"Rung {self.rung} after {self.moves} moves.")
        if self.rung == 3:
            for each in self.possible_agents:
                self.give(each, 1.0)
            return None
        return "b" if agent == "a" else "a"

    def _facts(self, agent):
        return {"won": self.rung == 3, "score": self.rung / 3, "state_key": f"{self.agent_selection}{self.moves}"}

    def _saved(self):
        return {"rung": self.rung, "moves": self.moves}

    def _resume(self, saved):
        self.rung, self.moves = saved["rung"], saved["moves"]


class NoSnapshots(TeamLadder):
    can_snapshot = False


class Climbers(ScriptedPolicy):
    """Plays `base` by agent, reflects with `words`, and in retries every agent plays `retry`."""

    def __init__(self, words, retry=("up",), base=LOSING) -> None:
        super().__init__(lambda prompt: [])
        self._words, self._retry, self._base = words, retry, base
        self._turns: dict[str, int] = {}
        self.prompts: dict[str, list[str]] = {}

    async def sample(self, request: SampleRequest) -> Completion:
        key = request.cache_key
        turn = self._turns[key] = self._turns.get(key, -1) + 1
        self.prompts.setdefault(key, []).append(TOKENIZER.decode(list(request.prompt_ids)))
        if key.endswith("/reflection"):
            text = self._words
        else:
            script = self._retry if "/retry" in key else self._base[key.partition("#")[2]]
            text = script[min(turn, len(script) - 1)]
        ids = tuple(reply(text))[: request.max_new_tokens]
        return Completion(ids, (-0.5,) * len(ids), "stop", self.version)


def workers(policy, *, players=None, make=TeamLadder, reflector=None) -> LocalWorkers:
    keys = {"a": "", "b": "", **(players or {})}
    agents = tuple(AgentSpec(agent, f"climber {agent}", CARD, CHAT, key, key == "") for agent, key in keys.items())
    return LocalWorkers(
        lambda: TurnsEnv(make()),
        CARD,
        TOKENIZER,
        policy,
        max_concurrency=4,
        max_context=4000,
        reflector=reflector,
        agents=agents,
    )


def group_of(policy, *, players=None, make=TeamLadder, judge=None, limits=None, **options):
    pool = workers(policy, players=players, make=make, reflector=judge)
    group = play(pool, max_steps=6, limits={"task_id": "0", **(limits or {})}, **options)
    pool.close()
    return group


def seat(group, agent, *, is_retry):
    found = [t for t in group.trajectories if t.agent_id == agent and (t.parent_id is not None) == is_retry]
    assert len(found) == 1
    return found[0]


def actions(trajectory):
    return [turn.info["action"] for turn in trajectory.turns]


@pytest.mark.parametrize("make", [TeamLadder, NoSnapshots])
@pytest.mark.parametrize(
    ("pivot", "guided", "before"), [(0, "a", (0, 0)), (1, "b", (1, 0)), (2, "a", (1, 1)), (3, "b", (2, 1))]
)
def test_the_pivot_names_a_turn_and_its_agent_and_counts_each_agents_own_turns(pivot, guided, before, make):
    policy = Climbers(report(pivot), ["up"])
    group = group_of(policy, make=make)
    assert len(group.trajectories) == 4
    for agent, own in zip("ab", before, strict=True):
        base, retry = seat(group, agent, is_retry=False), seat(group, agent, is_retry=True)
        assert base.info["pivot"] == retry.info["pivot"] == own
        assert (retry.parent_id, retry.fork_turn) == (base.episode_id, pivot)
        assert retry.turns[:own] == base.turns[:own]
        assert actions(base) == LOSING[agent]
        assert set(actions(retry)[own:]) == {"up"}
    shown = {key.partition("#")[2]: NOTE in prompts[0] for key, prompts in policy.prompts.items() if "/retry" in key}
    assert shown == {"a": guided == "a", "b": guided == "b"}
    told = [t for t in group.trajectories if "reflection" in t.info]
    assert [(t.agent_id, t.info["reflection"]["agent"]) for t in told] == [(guided, guided)]
    assert told[0].info["reflection"]["verified"]


def test_the_guided_agent_is_trained_without_the_guidance_and_the_other_as_it_was_asked():
    group = group_of(Climbers(report(1)))
    assert not any(NOTE in text_of(t.turns) for t in group.trajectories)
    guided, other = seat(group, "b", is_retry=True), seat(group, "a", is_retry=True)
    assert [turn.off_context for turn in guided.turns] == [True]
    assert [turn.off_context for turn in other.turns] == [False, False]
    plainly = group_of(Climbers(SUCCESS, base={"a": ["up"], "b": ["up"]}))
    for retry, agent in ((guided, "b"), (other, "a")):
        same = seat(plainly, agent, is_retry=False)
        assert [t.context_ids for t in retry.turns] == [t.context_ids for t in same.turns]
        assert [t.action_ids for t in retry.turns] == [t.action_ids for t in same.turns]


def test_without_distillation_the_guidance_stays_in_the_guided_agents_context():
    group = group_of(Climbers(report(1)), distill=False)
    assert NOTE in text_of(seat(group, "b", is_retry=True).turns)
    assert NOTE not in text_of(seat(group, "a", is_retry=True).turns)
    assert not any(turn.off_context for t in group.trajectories for turn in t.turns)


def test_auxiliary_samples_are_the_guided_agents():
    reflection, guided = group_of(Climbers(report(3))).auxiliary
    assert (reflection.agent_id, reflection.info["role"], reflection.info["kind"]) == ("b", "climber b", "reflection")
    assert (guided.agent_id, guided.info["kind"]) == ("b", "guided_retry")
    assert [turn.trainable for turn in guided.turns] == [False, True]
    assert NOTE in text_of(guided.turns)
    parts = by_seat([group_of(Climbers(report(3)))])
    assert [[t.agent_id for t in part.auxiliary] for part in parts] == [[], ["b", "b"]]


def test_the_transcript_shows_whose_turn_each_was():
    policy = Climbers(report(1))
    group_of(policy)
    (prompt,) = policy.prompts["g/0/reflection"]
    assert "[0] a: You are a. Rung 0 after 0 moves.\n> up" in prompt
    assert "[1] b: You are b. Rung 0 after 0 moves.\nRung 1 after 1 moves.\n> down" in prompt
    assert "[2] a: Rung 1 after 1 moves.\nRung 0 after 2 moves.\n> up" in prompt
    assert "6 of 6 steps" in prompt


def test_a_pivot_at_an_agent_that_is_not_trained_goes_to_the_next_that_is():
    policy = Climbers(report(1))
    routed = RoutedPolicy({"": policy, "other": Climbers(report(1))}, ("",))
    group = group_of(routed, players={"b": "other"})
    retry = seat(group, "a", is_retry=True)
    assert (retry.fork_turn, retry.info["pivot"]) == (2, 1)
    assert seat(group, "a", is_retry=False).info["reflection"]["agent"] == "a"
    assert seat(group, "a", is_retry=False).info["reflection"]["pivot"] == 1
    assert [part.group_id for part in by_seat([group])] == ["g#a"]
    late = group_of(RoutedPolicy({"": Climbers(report(5)), "other": Climbers("")}, ("",)), players={"b": "other"})
    assert not any(t.parent_id for t in late.trajectories)
    assert seat(late, "a", is_retry=False).info["reflection"]["retry"] == ""


def test_a_restart_from_the_start_guides_the_agent_of_the_pivot():
    policy = Climbers(report(3))
    group = group_of(policy, restart="start")
    assert NOTE in policy.prompts["g/0/retry#b"][0]
    assert NOTE not in policy.prompts["g/0/retry#a"][0]
    assert not any("pivot" in t.info for t in group.trajectories)
    assert seat(group, "a", is_retry=True).fork_turn == 0
    assert all(turn.off_context for turn in seat(group, "b", is_retry=True).turns)


def test_an_agent_without_a_turn_of_its_own_in_the_retry_gets_none():
    """From the last turn on only b acts: a has nothing that it did in the retry."""
    group = group_of(Climbers(report(5), ["down"]))
    assert [(t.agent_id, t.parent_id) for t in group.trajectories] == [("a", None), ("b", None), ("b", "g/0")]
    assert "pivot" not in seat(group, "a", is_retry=False).info
    assert seat(group, "b", is_retry=False).info["pivot"] == 2


def test_a_retry_that_broke_leaves_the_bases_as_they_were():
    class Failing(Climbers):
        async def sample(self, request):
            if request.cache_key == "g/0/retry#a":
                raise PolicyError("out of memory")
            return await super().sample(request)

    group = group_of(Failing(report(1), ["down"]))
    stops = {t.agent_id: t.stop_reason for t in group.trajectories if t.parent_id}
    assert stops == {"a": StopReason.POLICY_ERROR, "b": StopReason.ABANDONED}
    assert [t.agent_id for t in group.valid] == ["a", "b"]
    assert not any("pivot" in t.info for t in group.trajectories)
    assert group.auxiliary == ()


def test_what_leaks_is_what_the_guided_agent_says():
    said = ["the note", "up"]
    group = group_of(Climbers(report(1), said), limits={"max_steps": 4})
    assert not any(t.parent_id for t in group.trajectories)  # b speaks of its note
    assert seat(group, "b", is_retry=False).info["reflection"]["leaked"]


def test_hindsight_names_the_agent_and_its_turn():
    """From rung 1 to rung 0 the way grew: that was the second turn, of b."""
    group = group_of(Climbers(""), judge=HindsightReflector(), reflector="hindsight")
    told = seat(group, "b", is_retry=False).info["reflection"]
    assert (told["pivot"], told["oracle_pivot"], told["agent"], told["refused"]) == (1, 1, "b", "")
    assert json.loads(told["text"])["trajectory_summary"] == "Step 1, a turn of b, led away from the goal."
    assert seat(group, "b", is_retry=True).won


def test_hindsight_cannot_tell_where_the_environment_gives_no_distances():
    class Blind(TeamLadder):
        def remaining(self):
            return None

    group = group_of(Climbers(""), make=Blind, judge=HindsightReflector(), reflector="hindsight")
    assert seat(group, "a", is_retry=False).info["reflection"]["refused"] == Refusal.CANNOT_TELL


def test_what_was_sampled_is_counted_once():
    metrics = generation_metrics(by_seat([group_of(Climbers(report(1)))]))
    ups, downs = len(reply("up")), len(reply("down"))
    assert metrics["rollout/turns"] == 6 + 2
    assert metrics["rollout/generated_tokens"] == 2 * ups + 4 * downs + len(reply(report(1))) + 2 * ups
    assert metrics["reflect/num"] == metrics["reflect/verified"] == 1.0


def test_pivotal_credit_drops_the_turns_that_base_and_retry_share_for_each_agent():
    groups = by_seat([group_of(Climbers(report(3)))])
    table, _ = build_table(groups, 0)
    algorithm = build_algorithm(AlgorithmSection(name="r3l"))
    masks = algorithm.prepare(
        table.with_columns({"old_logprobs": table.columns["behaviour_logprobs"]}), Context()
    ).columns["mask"]
    kept = [
        bool(masks[(table.trajectory == n) & (table.token_column("position") == at)].any())
        for n, trajectory in enumerate(t for group in groups for t in group.trajectories)
        for at in range(len(trajectory.turns))
    ]
    of_a, of_b = [False, False, True, False, False, True], [False, True, True, False, True]
    assert kept == [*of_a, *of_b]


def test_a_run_trains_with_it(switch_policy, tmp_path):
    config = validate_config(
        {
            "env": {"id": "tests.team_switch:TeamSwitch"},
            "policy": {"path": str(switch_policy), "max_context": 64},
            "rollout": {
                "strategy": "reflect_retry",
                "num_tasks": 3,
                "group_size": 4,
                "max_steps": 9,
                "reflect": {"reflector": "hindsight", "trigger": "always"},
            },
            "algorithm": {"name": "critique_grpo"},
            "trainer": {"steps": 1},
            "eval": {"num_tasks": 0},
            "run": {"out": str(tmp_path / "run")},
        }
    )
    train(config)
    metrics = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    assert metrics["reflect/num"] == 6
    assert metrics["reflect/retries"] > 0
    assert metrics["grad/norm"] >= 0
