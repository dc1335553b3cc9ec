"""Keeps the conversations of external agents, ends them by feedback or age, and counts their outcomes."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from agentgym_rft.errors import AgentGymError
from agentgym_rft.serve.conversation import Conversation, Outcome
from agentgym_rft.serve.errors import RequestError
from agentgym_rft.serve.groups import Groups, GroupSink, Place
from agentgym_rft.serve.settings import ServeSettings

EXPIRED, SHUTDOWN = "expired", "shutdown"
_ENDED_KEPT = 65_536  # ids of ended conversations that are remembered
_log = logging.getLogger(__name__)


class Recorder:
    """All conversations of one gateway. It belongs to one event loop: nothing here waits or locks.

    Every conversation with a reply ends up in exactly one place:
    `recorded = open + waiting + stored + dropped (by reason) + lost`.

    Args:
        settings: limits and group size.
        sink: gets finished groups.
        forget: called with the id of each conversation that ended.
        clock: seconds.
        name: begins the ids of groups and episodes; by default a new one each time, so that a store holds no id twice.
    """

    def __init__(
        self,
        settings: ServeSettings,
        sink: GroupSink,
        forget: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        name: str | None = None,
    ) -> None:
        self._settings = settings
        self._forget = forget
        self._clock = clock
        self._name = name or f"serve-{uuid.uuid4().hex[:8]}"
        self._open: dict[str, Conversation] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()  # id -> why
        self._sink = sink
        self._dropped: Counter[str] = Counter()
        self._num_recorded = 0
        self._counts: Counter[str] = Counter()
        self.groups = Groups(sink, settings.group_size, settings.max_conversations, self._name, clock)

    @contextmanager
    def replying(self, conversation_id: str | None) -> Iterator[Conversation]:
        """Return the conversation of a request, begun if need be and busy inside; without an id, a new one.

        Raises `RequestError`: it is busy or has ended, has its last reply, or there are too many.
        """
        self.sweep()
        conversation = self._find(conversation_id or uuid.uuid4().hex)
        conversation.is_running = True
        num_before = len(conversation.turns)
        try:
            yield conversation
        finally:
            conversation.is_running = False
            conversation.touched = self._clock()
            self._count(conversation, num_before)

    def feedback(self, conversation_id: str, outcome: Outcome, *, task_id: str | None, group_id: str | None) -> Place:
        """End a conversation with its reward.

        Raises `RequestError`: there is no such conversation, it has ended, is busy, or is of another task than its
        group; or its group could not be stored, and then it is still open.
        """
        self.sweep()
        conversation = self._open.get(conversation_id)
        if conversation is None:
            raise self._not_open(conversation_id)
        if conversation.is_running:
            raise RequestError(409, f"Conversation '{conversation_id}' is still being answered.", code="busy")
        key = group_id if group_id is not None else task_id
        expected = None if key is None else self.groups.task_of(key)
        if expected is not None and expected != outcome.task_id:
            raise RequestError(
                409, f"Group '{key}' is of task '{expected}', not of '{outcome.task_id}'.", param="task_id"
            )
        episode_id = f"{self._name}/{conversation_id}"
        try:
            place = self.groups.add(key, outcome.task_id, lambda id: conversation.trajectory(id, episode_id, outcome))
        except (AgentGymError, OSError) as error:
            _log.error("Conversation '%s' cannot be stored: %s", conversation_id, error)
            raise RequestError(
                503, "The conversation could not be stored, and stays open: send the feedback again.", code="not_stored"
            ) from error
        self._end(conversation, "it has its feedback")
        return place

    def sweep(self) -> None:
        """Drop the conversations without a request for too long, and write groups that nothing was added to."""
        expire_s, now = self._settings.expire_s, self._clock()
        for conversation in [c for c in self._open.values() if not c.is_running and now - c.touched >= expire_s]:
            self._drop(conversation, EXPIRED)
        self.groups.sweep(expire_s)

    def finish(self) -> None:
        """The end: incomplete groups are written, open conversations counted as dropped."""
        for conversation in list(self._open.values()):
            self._drop(conversation, SHUTDOWN)
        self.groups.finish()

    def count(self, what: str) -> None:
        """One more of something that `status` shows under `requests`."""
        self._counts[what] += 1

    def status(self) -> dict[str, Any]:
        """Return counts, as JSON holds them."""
        self.sweep()
        groups = self.groups
        return {
            "conversations": {
                "recorded": self._num_recorded,
                "open": sum(bool(c.turns) for c in self._open.values()),
                "running": sum(c.is_running for c in self._open.values()),
                "finished": groups.num_waiting + groups.num_stored + groups.num_lost,
                "waiting": groups.num_waiting,
                "stored": groups.num_stored,
                "dropped": dict(self._dropped),
                "lost": groups.num_lost,
            },
            "groups": {
                "open": groups.num_open,
                "written": groups.num_written,
                "incomplete": groups.num_incomplete,
                "trained": self._sink.num_trained(),
                "size": self._settings.group_size,
            },
            "requests": dict(self._counts),
        }

    def _find(self, conversation_id: str) -> Conversation:
        if conversation_id in self._ended:
            raise self._not_open(conversation_id)
        conversation = self._open.get(conversation_id)
        if conversation is None:
            if len(self._open) >= self._settings.max_conversations:
                raise RequestError(
                    429,
                    f"{len(self._open)} conversations are open, no more are taken. End some with feedback.",
                    code="too_many_conversations",
                )
            conversation = self._open[conversation_id] = Conversation(conversation_id, self._clock())
        if conversation.is_running:
            raise RequestError(
                409, f"Conversation '{conversation_id}' is being answered; one request at a time.", code="busy"
            )
        if len(conversation.turns) >= self._settings.max_turns:
            raise RequestError(
                409, f"Conversation '{conversation_id}' has {self._settings.max_turns} replies, the most it may have."
            )
        return conversation

    def _count(self, conversation: Conversation, num_before: int) -> None:
        if conversation.id not in self._open:  # dropped at the end, while it was being answered
            return
        if not conversation.turns:  # its first request failed: as if it had never been
            del self._open[conversation.id]
            self._forget(conversation.id)
        elif len(conversation.turns) > num_before:
            turn = conversation.turns[-1]
            self._num_recorded += num_before == 0
            self._counts["turns"] += 1
            self._counts["restarts"] += turn.restart
            self._counts["sampled_tokens"] += len(turn.action_ids)

    def _not_open(self, conversation_id: str) -> RequestError:
        if conversation_id in self._ended:
            return RequestError(
                409, f"Conversation '{conversation_id}' has ended: {self._ended[conversation_id]}.", code="ended"
            )
        return RequestError(404, f"There is no conversation '{conversation_id}'.", param="conversation_id")

    def _drop(self, conversation: Conversation, reason: str) -> None:
        if conversation.turns:
            self._dropped[reason] += 1
        self._end(conversation, reason)

    def _end(self, conversation: Conversation, why: str) -> None:
        del self._open[conversation.id]
        self._ended[conversation.id] = why
        if len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        self._forget(conversation.id)
