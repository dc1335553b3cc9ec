"""A base episode with the retry that its reflection led to, and how the two are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.reflect import Refusal, Report, leaks
from agentgym_rft.config.run import ReflectSection
from agentgym_rft.core import Trajectory, Turn
from agentgym_rft.rollouts.episode.forks import Played, own_turns
from agentgym_rft.rollouts.reflection.hindsight import pivot_of
from agentgym_rft.rollouts.reflection.reflectors import Reflection

MAX_REWARD = 1.0  # of the rule of the released code: a return from here on is a success


@dataclass(frozen=True, slots=True)
class Lineage:
    """A base episode and what came of it. With several agents, returns and turns are those of the guided one."""

    errored: tuple[Trajectory, ...]  # earlier attempts of the base
    base: Played
    reflection: Reflection | None = None  # None: there was nothing to reflect on
    retry: Played | None = None
    guided: str = ""  # of several agents, the one that the retry guides

    @property
    def pivot(self) -> int:
        """The turn that the retry started from."""
        return self.retry.trajectory.fork_turn or 0 if self.retry else 0

    @property
    def new_turns(self) -> tuple[Turn, ...]:
        """The retry's own turns, of all agents."""
        return self.retry.trajectory.turns[self.pivot :] if self.retry else ()

    @property
    def guided_turns(self) -> tuple[Turn, ...]:
        """Those that were taken under the guidance."""
        return tuple(turn for turn in self.new_turns if not self.guided or turn.info["agent"] == self.guided)

    @property
    def teller(self) -> str:
        """The agent whose trajectory tells about the reflection; "" where there is one agent."""
        trained = [part.agent_id for part in self.base.parts if part.info["is_trained"]]
        return self.guided or next(iter(trained), "") or next((part.agent_id for part in self.base.parts), "")

    def pivot_of(self, agent: str) -> int:
        """How many turns of an agent base and retry share."""
        return own_turns(self.base.trajectory.turns[: self.pivot], agent)

    def goes_on(self, agent: str) -> bool:
        """True if the agent has a turn of its own in the retry."""
        return own_turns(self.new_turns, agent) > 0


def is_usable(lineage: Lineage, options: ReflectSection) -> bool:
    """True if there is a retry without an error, with a guided turn of its own, that may be trained."""
    if lineage.retry is None or lineage.retry.trajectory.is_error or not lineage.guided_turns:
        return False
    return not (options.distill and _leaked(lineage))


def _leaked(lineage: Lineage) -> bool:
    return any(leaks(str(turn.info["text"])) for turn in lineage.guided_turns)


def retry_return(lineage: Lineage) -> float:
    """The return of a retry without an error; 0 without a retry."""
    return lineage.retry.of(lineage.guided).episode_return if lineage.retry else 0.0


def is_verified(base: Trajectory, retry: Trajectory, options: ReflectSection) -> bool:
    """True if a retry is a verified correction of its base.

    `paper`: its return is higher. `code` (the authors' release): it also reaches 1, or reaches 1 in fewer turns.
    """
    improved = retry.episode_return > base.episode_return
    if options.verified_rule == "paper":
        return improved
    is_shorter = len(retry.turns) < len(base.turns)
    return retry.episode_return >= MAX_REWARD and (improved or is_shorter)


def is_correction(lineage: Lineage, options: ReflectSection) -> bool:
    """True if the retry can be used and is a verified correction."""
    if lineage.retry is None or not is_usable(lineage, options):
        return False
    return is_verified(lineage.base.of(lineage.guided), lineage.retry.of(lineage.guided), options)


def record(lineage: Lineage, reflection: Reflection, options: ReflectSection) -> dict[str, Any]:
    """What became of a reflection, for the metrics and for the trajectory file."""
    report, turn = reflection.report, reflection.turn
    base, retry = lineage.base, lineage.retry
    left = [number for number in base.remaining if number is not None]
    is_known = len(left) == len(base.trajectory.turns) + 1
    is_played = retry is not None and not retry.trajectory.is_error
    sampled = [*([turn] if turn else []), *lineage.new_turns]
    return {
        "text": reflection.text,
        "refused": report.value if isinstance(report, Refusal) else "",
        "outcome": report.trajectory_outcome.value if isinstance(report, Report) else "",
        "pivot": report.retry_from_step if isinstance(report, Report) else None,
        "oracle_pivot": pivot_of(left) if is_known else None,
        "retry": retry.trajectory.stop_reason.value if retry else "",
        "improved": is_played and retry_return(lineage) > base.of(lineage.guided).episode_return,
        "leaked": options.distill and _leaked(lineage),
        "verified": is_correction(lineage, options),
        "turns": len(lineage.new_turns),
        "tokens": sum(len(each.action_ids) for each in sampled),
        **({"agent": lineage.guided} if lineage.guided else {}),
    }
