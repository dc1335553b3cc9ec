"""The task, the seed and the limits of an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentgym_rft.core import Turn


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """The task of an episode and its limits. The step limit counts the turns of all agents."""

    task_id: str
    group_id: str
    episode_id: str
    seed: int
    temperature: float
    max_steps: int
    max_context: int
    step_timeout_s: float | None = None
    invalid_penalty: float = 0.0  # taken off the reward of a turn whose action was invalid
    stop_invalid: bool = False  # an invalid action ends the episode as a failure
    stop_repeated: int = 0  # the same action of an agent so many times in a row ends it, too; 0: never
    record_snapshots: bool = False  # keep the environment's state before every turn, if it can give it
    record_remaining: bool = False  # ask the environment for the shortest completion before every turn
    players: Mapping[str, str] = field(default_factory=dict)  # agents that others play in this episode, untrained
    view: str = ""  # of several agents, the one whose trajectory is asked for; "": the turns of all
    reward_share: float = 0.0  # of the team's mean reward in each agent's, where there are several
    reply_timeout_s: float | None = None  # deadline of an agent's reply

    def broken_rule(self, turns: Sequence[Turn]) -> str:
        """Return the rule that an agent's last turn broke, which ends the episode as a failure; "" if none."""
        if self.stop_invalid and turns[-1].info["invalid_action"]:
            return "invalid action"
        last = [turn.info["action"] for turn in turns[-self.stop_repeated :]] if self.stop_repeated else []
        return "repeated action" if last and len(last) == self.stop_repeated and len(set(last)) == 1 else ""
