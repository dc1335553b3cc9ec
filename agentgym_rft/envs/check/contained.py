"""Checks the contract in a process of its own, and so survives an environment that hangs or ends the process."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.check.multi_agent import MULTI_RULES, has_several_agents
from agentgym_rft.envs.check.run import BASIC_RULES, RULES, check_rule
from agentgym_rft.envs.check.subject import THOROUGH, CheckSettings, NamedEnv, Subject
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.errors import ConfigError, DataError, EnvContractError, EnvError, EnvTimeoutError, RegistryError

Outcome = Literal["ok", "failed", "skipped"]
_ENDING = re.compile(r"ended with exit code -?\d+|was killed by \w+")
_NOT_CHECKED = "not checked, because a rule above that it builds on is broken"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The result of a rule: its function's name, and a note or the sentence that says how it is broken."""

    name: str
    outcome: Outcome
    sentence: str
    time_s: float


class RuleRunner(TextEnv):
    """Checks rules where it lives. It is itself an environment, whose actions are names of rules, so that `ProcessEnv`
    hosts it: deadlines, crashes and cleaning up are solved there.

    The answer to a rule is its note; `info["broken"]` says whether it is the sentence of a broken rule, and
    `info["applies"]` whether the rule applies to this environment. A wrong name, option or data folder is not a broken
    rule: it raises an error.
    """

    def __init__(self, id: str, options: Mapping[str, Any], split: str, settings: CheckSettings) -> None:
        self._subject = Subject(NamedEnv(id, options), split, settings)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return "", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        rule = next(rule for rule in (*RULES, *MULTI_RULES) if rule.__name__ == action)
        if rule in MULTI_RULES and not has_several_agents(self._subject):
            self._subject.close_all()
            return "", 0.0, False, False, {"broken": False, "applies": False}
        try:
            return check_rule(rule, self._subject), 0.0, False, False, {"broken": False, "applies": True}
        except EnvContractError as error:
            if rule is RULES[0] and isinstance(error.__cause__, (RegistryError, ConfigError, DataError)):
                raise error.__cause__ from None
            return str(error), 0.0, False, False, {"broken": True, "applies": True}


def check_report(
    id: str,
    options: Mapping[str, Any] | None = None,
    *,
    split: str | None = None,
    settings: CheckSettings = THOROUGH,
) -> Iterator[RuleResult]:
    """Yield each rule with its outcome, as it becomes known. A rule that hangs or ends the process is a broken one.

    Args:
        id: a registered id, short name, or `module:Class`, which another process can import.
        options: keyword arguments of the environment.
        split: where tasks are taken from; default: the environment's first.
        settings: how much is checked; `timeout_s` is the deadline of each rule.
    Raises:
        RegistryError, ConfigError, DataError: there is no such environment, or it does not take these options.
    """
    arguments = {"id": id, "options": dict(options or {}), "split": split or "", "settings": settings}
    runner = ProcessEnv(f"{__name__}:RuleRunner", arguments, timeout_s=settings.timeout_s)
    is_basic_broken = False
    try:
        for rule in (*RULES, *MULTI_RULES):
            if is_basic_broken and rule in RULES:
                yield RuleResult(rule.__name__, "skipped", _NOT_CHECKED, 0.0)
            if is_basic_broken:
                continue
            result = _run(runner, rule.__name__, settings)
            if result is None:
                return
            is_basic_broken = result.outcome == "failed" and rule in BASIC_RULES
            yield result
    finally:
        runner.close()


def _run(runner: ProcessEnv, name: str, settings: CheckSettings) -> RuleResult | None:
    """Return the result of a rule; None if it is about several agents and there is one."""
    began = time.monotonic()
    try:
        runner.reset()  # starts another process if the last rule ended it
        sentence, _, _, _, info = runner.step(name)
        if not info["applies"]:
            return None
        outcome: Outcome = "failed" if info["broken"] else "ok"
    except EnvTimeoutError:
        sentence = (
            f"the environment was stopped after {settings.timeout_s:g} s: it hangs, or is too slow for this rule."
        )
        outcome = "failed"
    except EnvError as error:
        ending = _ENDING.search(str(error))
        sentence = f"the environment took its process with it, which {ending[0]}." if ending else str(error)
        outcome = "failed"
    return RuleResult(name, outcome, sentence, time.monotonic() - began)
