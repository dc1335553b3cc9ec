"""A base episode and its retry, and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentgym_rft.agents.reflect import Refusal, Report, leaks
from agentgym_rft.config.run import ReflectSection
from agentgym_rft.core import Trajectory, Turn
from agentgym_rft.rollouts.episode.forks import EpisodeRecord, own_turns
from agentgym_rft.rollouts.reflection.hindsight import pivot_of
from agentgym_rft.rollouts.reflection.reflectors import Reflection

MAX_REWARD = 1.0  # the authors' code counts a return of at least this as a success


@dataclass(frozen=True, slots=True)
class RetryPair:
    """A base episode with its reflection and retry.

    With several agents, returns and turns are those of the guided agent.
    """

    errored: tuple[Trajectory, ...]  # earlier attempts of the base
    base: EpisodeRecord
    reflection: Reflection | None = None  # None: there was nothing to reflect on
    retry: EpisodeRecord | None = None
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
    def reporting_agent(self) -> str:
        """The agent whose trajectory tells about the reflection; "" where there is one agent."""
        trained = (each.agent_id for each in self.base.team if each.info["is_trained"])
        return self.guided or next(trained, self.base.agents[0])

    def pivot_of(self, agent: str) -> int:
        """Return the number of turns of an agent that base and retry share."""
        return own_turns(self.base.trajectory.turns[: self.pivot], agent)

    def goes_on(self, agent: str) -> bool:
        """Return True if the agent has a turn of its own in the retry."""
        return own_turns(self.new_turns, agent) > 0


def is_usable(pair: RetryPair, options: ReflectSection) -> bool:
    """Return True if there is a retry without an error, with a guided turn of its own, that may be trained."""
    if pair.retry is None or pair.retry.trajectory.is_error or not pair.guided_turns:
        return False
    return not (options.distill and _leaked(pair))


def _leaked(pair: RetryPair) -> bool:
    return any(leaks(str(turn.info["text"])) for turn in pair.guided_turns)


def retry_return(pair: RetryPair) -> float:
    """Return the return of a retry without an error; 0 without a retry."""
    return pair.retry.of(pair.guided).episode_return if pair.retry else 0.0


def is_verified(base: Trajectory, retry: Trajectory, options: ReflectSection) -> bool:
    """Return True if a retry is a verified correction of its base.

    `paper`: its return is higher. `code` (the authors' release): it also reaches 1, or reaches 1 in fewer turns.
    """
    improved = retry.episode_return > base.episode_return
    if options.verified_rule == "paper":
        return improved
    is_shorter = len(retry.turns) < len(base.turns)
    return retry.episode_return >= MAX_REWARD and (improved or is_shorter)


def is_correction(pair: RetryPair, options: ReflectSection) -> bool:
    """Return True if the retry can be used and is a verified correction."""
    if pair.retry is None or not is_usable(pair, options):
        return False
    return is_verified(pair.base.of(pair.guided), pair.retry.of(pair.guided), options)


def record(pair: RetryPair, reflection: Reflection, options: ReflectSection) -> dict[str, Any]:
    """Return the outcome of a reflection, for the metrics and for the trajectory file."""
    report, turn = reflection.report, reflection.turn
    base, retry = pair.base, pair.retry
    left = [number for number in base.remaining if number is not None]
    is_known = len(left) == len(base.trajectory.turns) + 1
    is_played = retry is not None and not retry.trajectory.is_error
    sampled = [*([turn] if turn else []), *pair.new_turns]
    return {
        "text": reflection.text,
        "refused": report.value if isinstance(report, Refusal) else "",
        "outcome": report.trajectory_outcome.value if isinstance(report, Report) else "",
        "pivot": report.retry_from_step if isinstance(report, Report) else None,
        "oracle_pivot": pivot_of(left) if is_known else None,
        "retry": retry.trajectory.stop_reason.value if retry else "",
        "improved": is_played and retry_return(pair) > base.of(pair.guided).episode_return,
        "leaked": options.distill and _leaked(pair),
        "verified": is_correction(pair, options),
        "turns": len(pair.new_turns),
        "tokens": sum(len(each.action_ids) for each in sampled),
        **({"agent": pair.guided} if pair.guided else {}),
    }
