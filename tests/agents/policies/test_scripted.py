"""A scripted policy plays through the token interface."""

from __future__ import annotations

import asyncio

from agentgym_rft.agents.policies.base import Completion, SampleRequest
from agentgym_rft.agents.policies.scripted import ScriptedPolicy


def test_the_script_sees_the_prompt_and_its_answer_has_logprob_zero() -> None:
    policy = ScriptedPolicy(lambda prompt: [*reversed(prompt), 9], version=2)
    completion = asyncio.run(policy.sample(SampleRequest("a", [1, 2, 3], 10, (9,))))
    assert completion == Completion((3, 2, 1, 9), (0.0,) * 4, "stop", 2)


def test_an_answer_is_cut_at_a_stop_id_and_at_the_limit() -> None:
    policy = ScriptedPolicy(lambda prompt: [1, 2, 3, 4])
    stopped = asyncio.run(policy.sample(SampleRequest("a", [0], 10, (3,))))
    limited = asyncio.run(policy.sample(SampleRequest("a", [0], 2, (3,))))
    assert (stopped.ids, stopped.stop) == ((1, 2, 3), "stop")
    assert (limited.ids, limited.stop) == ((1, 2), "length")


def test_load_takes_over_the_version() -> None:
    policy = ScriptedPolicy(lambda prompt: [1])
    policy.load({}, 5)
    policy.release("unknown")
    assert policy.version == 5
