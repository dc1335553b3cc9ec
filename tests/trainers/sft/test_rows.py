"""Rows of demonstrations, and prompts that leave no room for one."""

from __future__ import annotations

from itertools import islice, repeat

import pytest

from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.sft.rows import with_room


def demonstration(prompt_tokens: int) -> Trajectory:
    """One turn after a prompt of this length."""
    turn = Turn(tuple(range(prompt_tokens)), (1,), (0.0,))
    return Trajectory("1", "g", f"e{prompt_tokens}", (turn,), StopReason.SUCCESS)


def test_demonstrations_are_refused_if_no_prompt_among_the_first_leaves_room_for_an_action():
    with pytest.raises(ConfigError, match=r"has 20 tokens or more, but model.max_context is 20, so no action"):
        next(with_room(iter([demonstration(25), demonstration(20)]), 20))


def test_one_prompt_that_fits_is_enough_and_every_demonstration_is_kept():
    some = [demonstration(25), demonstration(19), *repeat(demonstration(30), 10)]
    assert list(with_room(iter(some), 20)) == some
    assert list(with_room(iter([]), 20)) == []
    assert len(list(islice(with_room(repeat(demonstration(3)), 20), 30))) == 30, "a stream may have no end"
