"""Has an environment's expert say what it would have done at every state that the policy reached (DAgger).

Each episode becomes a trajectory of its own whose trained turns are those in which the policy did what the expert
says, and one more for every other turn: the turns before it as they were played, and the expert's action in its place.
All of these begin as the episode does, so packed rows hold the episode once, with a branch for each difference.
A state that an episode comes back to is learnt from once: an episode that goes in circles would have most of the batch.

Source: Ross, Gordon and Bagnell 2011, arXiv 1011.0686 (with beta 0 from the first iteration on).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.config.run import Config
from agentgym_rft.core import Trajectory, Turn
from agentgym_rft.envs.base import TextEnv
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.errors import ConfigError, EnvError
from agentgym_rft.rollouts.reflection.hindsight import with_goal
from agentgym_rft.trainers.sources.base import Batch, Source, SourceAround


def expert_actions(env: TextEnv, trajectory: Trajectory) -> list[str]:
    """Return what the environment's expert would do in each turn of somebody else's episode, which is replayed.

    Raises:
        EnvError: the environment has no expert that goes on after somebody else, or its states are other ones now.
    """
    seed = trajectory.info.get("reset_seed")
    observation, info = env.reset(seed=seed, options={"task_id": trajectory.task_id})
    first = with_goal(observation, info)
    steps: list[tuple[str, str]] = []
    actions: list[str] = []
    for number, turn in enumerate(trajectory.turns):
        if turn.state_key and turn.state_key != info.get("state_key"):
            raise EnvError(f"Turn {number} of {trajectory.episode_id} was in another state when it was replayed.")
        actions.append(env.resumed_expert(first, steps, "").act(observation))
        action = turn.info["action"]
        if action:
            observation, _, _, _, info = env.step(action)
        steps.append((action, observation if action else ""))
    return actions


def labelled(
    trajectory: Trajectory, actions: Sequence[str], reply: Callable[[str], Sequence[int]]
) -> tuple[list[Trajectory], int]:
    """Return the trajectories to imitate, and in how many turns of all the policy did what the expert says.

    Args:
        actions: the expert's, one for each turn.
        reply: the token ids of a reply that holds an action.
    """
    agrees = [turn.info["action"] == action for turn, action in zip(trajectory.turns, actions, strict=True)]
    is_new = _first_visits(trajectory.turns)
    is_kept = [same and new for same, new in zip(agrees, is_new, strict=True)]
    turns = [replace(turn, trainable=kept) for turn, kept in zip(trajectory.turns, is_kept, strict=True)]
    found = [replace(trajectory, turns=tuple(turns))] if any(is_kept) else []
    start = 0  # of the row
    for number, turn in enumerate(trajectory.turns):
        start = number if turn.restart else start
        if agrees[number] or not is_new[number]:
            continue
        ids = tuple(reply(actions[number]))
        own = replace(turn, action_ids=ids, logprobs=(0.0,) * len(ids), trainable=True, off_context=True)
        past = (replace(each, trainable=False) for each in trajectory.turns[start:number])
        name = f"{trajectory.episode_id}/label.{number}"
        found.append(replace(trajectory, episode_id=name, turns=(*past, own)))
    return found, sum(agrees)


def _first_visits(turns: Sequence[Turn]) -> list[bool]:
    """Return of each turn whether the episode was not in its state before; one without a key is always new."""
    seen: set[str] = set()
    found = []
    for turn in turns:
        found.append(not turn.state_key or turn.state_key not in seen)
        seen.add(turn.state_key)
    return found


class LabelSource(SourceAround):
    """Adds to each batch of another source the groups that are trained instead, with the expert's actions.

    Raises:
        ConfigError: the environment has no expert that goes on after somebody else.
    """

    def __init__(self, inner: Source, config: Config, card: AgentCard, chat: ChatFormat) -> None:
        super().__init__(inner)
        self._card, self._chat = card, chat
        self._env: TextEnv = make_env(config.env.id, config.env.options)
        try:
            observation, info = self._env.reset(options={"task_id": self._env.task_ids(config.env.split)[0]})
            self._env.resumed_expert(with_goal(observation, info), [], "").act(observation)
        except EnvError as error:
            close_env(self._env)
            raise ConfigError(f"algorithm.name={config.algorithm.name}: {error} Choose another algorithm.") from error

    def batch(self, step: int) -> Batch:
        batch = super().batch(step)
        num_turns = num_equal = 0
        groups = []
        for group in batch.groups:
            found: list[Trajectory] = []
            for trajectory in group.valid:
                own, equal = labelled(trajectory, expert_actions(self._env, trajectory), self._reply)
                found += own
                num_turns += len(trajectory.turns)
                num_equal += equal
            groups.append(replace(group, trajectories=tuple(found), auxiliary=()))
        agreement = {"experts/agreement": num_equal / num_turns} if num_turns else {}
        return replace(batch, labelled_groups=groups, metrics={**batch.metrics, **agreement})

    def close(self) -> None:
        super().close()
        close_env(self._env)

    def _reply(self, action: str) -> Sequence[int]:
        return self._chat.reply(format_reply(action, "", self._card.action))
