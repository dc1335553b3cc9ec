"""What becomes of conversations: every one with a reply is in exactly one place."""

from __future__ import annotations

import pytest

from agentgym_rft.agents.agent import Prompt
from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.core import StopReason
from agentgym_rft.serve.conversation import Outcome
from agentgym_rft.serve.errors import RequestError
from agentgym_rft.serve.recorder import Recorder
from agentgym_rft.serve.settings import ServeSettings
from tests.serve.gateways import Clock, Kept


class Desk:
    """A recorder with a clock and a sink, and the ids that it let go."""

    def __init__(self, **limits: object) -> None:
        self.kept, self.clock, self.forgotten = Kept(), Clock(), []
        settings = ServeSettings(**({"group_size": 2, "expire_s": 60} | limits))
        self.recorder = Recorder(settings, self.kept, self.forgotten.append, clock=self.clock, name="g")

    def reply(self, conversation: str) -> None:
        with self.recorder.replying(conversation) as found:
            found.record(Prompt((1,), (1,), bool(found.turns)), Completion((2,), (-0.5,), "stop", 3), None, "x", 1.0)

    def end(self, conversation: str, reward: float = 1.0, task_id: str | None = "t", group_id: str | None = None):
        outcome = Outcome(reward, task_id or group_id or conversation, reward > 0, {})
        return self.recorder.feedback(conversation, outcome, task_id=task_id, group_id=group_id)

    @property
    def counts(self) -> dict:
        counts = self.recorder.status()["conversations"]
        in_some_place = counts["open"] + counts["waiting"] + counts["stored"] + counts["lost"]
        assert counts["recorded"] == in_some_place + sum(counts["dropped"].values())
        return counts


def refused(action, status: int) -> str:
    with pytest.raises(RequestError) as caught:
        action()
    assert caught.value.status == status
    return str(caught.value)


def test_a_group_is_written_when_it_has_its_size_and_the_next_one_begins():
    desk = Desk()
    for number in range(5):
        desk.reply(f"c{number}")
    places = [desk.end(f"c{number}", number) for number in range(5)]
    assert [place.is_written for place in places] == [False, True, False, True, False]
    assert [(group.group_id, group.task_id) for group in desk.kept.groups] == [("g/0/t", "t"), ("g/1/t", "t")]
    first = desk.kept.groups[0].trajectories
    assert [(t.episode_id, t.agent_id, t.group_id) for t in first] == [
        ("g/c0", "external", "g/0/t"),
        ("g/c1", "external", "g/0/t"),
    ]
    assert [(t.stop_reason, t.episode_return) for t in first] == [(StopReason.FAILURE, 0.0), (StopReason.SUCCESS, 1.0)]
    assert [turn.reward for turn in first[1].turns] == [1.0]
    assert desk.counts["stored"] == 4
    assert desk.counts["waiting"] == 1
    assert desk.forgotten == [f"c{number}" for number in range(5)]


def test_groups_are_by_group_id_else_by_task_and_a_conversation_with_neither_is_alone():
    desk = Desk()
    for number in range(5):
        desk.reply(f"c{number}")
    desk.end("c0", task_id="t")
    desk.end("c1", task_id="t", group_id="a")
    desk.end("c2", task_id=None)
    desk.end("c3", task_id="t", group_id="a")
    desk.end("c4", task_id="t")
    members = [[t.episode_id for t in group.trajectories] for group in desk.kept.groups]
    assert members == [["g/c2"], ["g/c1", "g/c3"], ["g/c0", "g/c4"]]
    assert desk.kept.groups[0].task_id == "c2"


def test_a_group_has_one_task():
    desk = Desk()
    desk.reply("c0")
    desk.reply("c1")
    desk.end("c0", task_id="t", group_id="a")
    assert refused(lambda: desk.end("c1", task_id="u", group_id="a"), 409) == "Group 'a' is of task 't', not of 'u'."
    assert desk.counts["open"] == 1


def test_feedback_ends_a_conversation_once():
    desk = Desk()
    assert refused(lambda: desk.end("c"), 404) == "There is no conversation 'c'."
    desk.reply("c")
    desk.end("c")
    ended = "Conversation 'c' has ended: it has its feedback."
    assert refused(lambda: desk.end("c"), 409) == ended
    assert refused(lambda: desk.reply("c"), 409) == ended
    assert desk.counts["recorded"] == 1


def test_a_conversation_is_answered_one_request_at_a_time():
    desk = Desk()
    desk.reply("c")
    with desk.recorder.replying("c"):
        assert "one request at a time" in refused(lambda: desk.reply("c"), 409)
        assert "still being answered" in refused(lambda: desk.end("c"), 409)
        desk.clock.now += 1000
        desk.recorder.sweep()
    assert desk.counts["open"] == 1, "what is being answered does not expire"
    desk.reply("c")


def test_a_conversation_without_a_request_for_too_long_is_dropped_and_has_no_reward():
    desk = Desk()
    desk.reply("old")
    desk.clock.now += 30
    desk.reply("new")
    desk.clock.now += 31
    assert desk.counts["dropped"] == {"expired": 1}
    assert refused(lambda: desk.end("old"), 409) == "Conversation 'old' has ended: expired."
    desk.end("new")
    desk.recorder.finish()
    assert [[t.episode_id for t in group.trajectories] for group in desk.kept.groups] == [["g/new"]]


def test_a_group_that_nothing_is_added_to_is_written_as_it_is():
    desk = Desk(group_size=3)
    for name in ("a", "b"):
        desk.reply(name)
        desk.end(name)
    desk.clock.now += 60
    assert desk.counts["stored"] == 2
    assert [len(group.trajectories) for group in desk.kept.groups] == [2]
    assert desk.recorder.status()["groups"]["incomplete"] == 1


def test_at_the_end_open_conversations_are_counted_and_incomplete_groups_written():
    desk = Desk()
    desk.reply("finished")
    desk.end("finished")
    desk.reply("open")
    desk.recorder.finish()
    counts = desk.counts
    assert (counts["stored"], counts["dropped"]) == (1, {"shutdown": 1})


def test_a_request_that_fails_leaves_no_trace():
    desk = Desk(max_conversations=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), desk.recorder.replying("c"):
            raise ZeroDivisionError
    assert desk.counts["recorded"] == 0
    assert refused(lambda: desk.end("c"), 404)
    desk.reply("c")
    with pytest.raises(ZeroDivisionError), desk.recorder.replying("c"):
        raise ZeroDivisionError
    desk.end("c")
    assert desk.counts["waiting"] == 1


def test_what_cannot_be_stored_stays_open_until_it_can():
    desk = Desk()
    for name in ("a", "b"):
        desk.reply(name)
    desk.end("a")
    desk.kept.refuses = True
    assert "send the feedback again" in refused(lambda: desk.end("b"), 503)
    assert (desk.counts["open"], desk.counts["waiting"], desk.counts["stored"]) == (1, 1, 0)
    desk.kept.refuses = False
    assert desk.end("b").is_written
    assert desk.counts["stored"] == 2


def test_what_cannot_be_stored_at_the_end_is_counted_as_lost(caplog):
    desk = Desk()
    desk.reply("a")
    desk.end("a")
    desk.kept.refuses = True
    desk.clock.now += 60
    assert desk.counts["waiting"] == 1, "it is tried again"
    desk.recorder.finish()
    assert desk.counts["lost"] == 1
    assert "No space left on device" in caplog.text


def test_everything_is_bounded():
    desk = Desk(max_conversations=2, max_turns=2)
    desk.reply("a")
    desk.reply("b")
    assert "2 conversations are open" in refused(lambda: desk.reply("c"), 429)
    desk.reply("a")
    assert "has 2 replies" in refused(lambda: desk.reply("a"), 409)
    desk.end("a", task_id="a")
    desk.end("b", task_id="b")
    desk.reply("c")
    desk.end("c", task_id="c")
    assert [group.task_id for group in desk.kept.groups] == ["a"], "the oldest of three incomplete groups"
    assert desk.counts["waiting"] == 2
