"""Demonstrations: episodes of an environment's scripted experts, recorded as the tokens of each chat agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from agentgym_rft.agents.agent import ChatAgent
from agentgym_rft.agents.card import AgentCard
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.agents.parse import format_reply
from agentgym_rft.config.sft import SftConfig, SftSection
from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.base import Expert, TextEnv
from agentgym_rft.errors import EnvError
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seats import Agents, AgentSpec, check_seats, make_agents, seat_card, seat_section
from agentgym_rft.rollouts.seeds import derive_seed
from agentgym_rft.trainers.sft.word_substitution import Wordbook, WordSubstitution

PlayerKind = Literal["expert", "random"]


class AnyListed:
    """Picks among the actions that the environment lists."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, info: Mapping[str, Any]) -> str:
        """Return one of the actions. Raises `EnvError` where none is listed."""
        actions = info.get("admissible_actions") or ()
        if not actions:
            raise EnvError("The environment lists no actions and has no random player: write sft.player=expert.")
        return str(actions[int(self._rng.integers(len(actions)))])


def player_of(
    env: TextEnv, observation: str, rng: np.random.Generator, kind: PlayerKind, noise: float
) -> Expert | AnyListed:
    """Return the player that demonstrates the episode that began with `observation`: one for all agents.

    Raises `EnvError` if there is no expert.
    """
    if kind == "expert":
        return env.expert(observation, rng, noise)
    return env.random_player(rng) or AnyListed(rng)


def asked(player: Expert | AnyListed, observation: str, info: Mapping[str, Any]) -> str:
    """Return the answer of a player to an observation."""
    return player.choose(info) if isinstance(player, AnyListed) else player.act(observation)


def sft_cards(config: SftConfig, env: TextEnv, card: AgentCard) -> dict[str, AgentCard]:
    """Return the card of each agent: `card` for an only one, "". Raises `ConfigError` for a section that is wrong."""
    if not env.seats:
        return {"": card}
    sections = config.team.seats
    check_seats(env.seats, sections)
    return {agent: seat_card(config, seat_section(agent, role, sections)) for agent, role in env.seats.items()}


def sft_agents(config: SftConfig, env: TextEnv, card: AgentCard, tokenizer: Any) -> Agents:
    """Return the agents of a supervised run. Those whose policy is not `trained` play and are not learnt from."""
    cards = sft_cards(config, env, card)
    sections = config.team.seats if env.seats else {}
    return make_agents(env.seats or {"": ""}, sections, cards, dict.fromkeys(cards, ""), tokenizer)


class Learner:
    """One agent of an episode that is demonstrated: its conversation, its turns and its reward so far.

    With a `substitution` it reads and says the texts of the environment in other words.
    """

    def __init__(self, agent: ChatAgent, chat: ChatFormat, substitution: WordSubstitution | None = None) -> None:
        self._agent, self._chat, self._substitution = agent, chat, substitution
        self.turns: list[Turn] = []
        self.reward = 0.0

    def observe(self, observation: str, info: Mapping[str, Any]) -> None:
        """Read an observation."""
        words = self._substitution
        self._agent.observe(*((observation, info) if words is None else (words.text(observation), words.info(info))))

    def act(self, action: str, state_key: str) -> None:
        """Take the turn that a policy would have to sample in order to do what the expert did."""
        prompt = self._agent.prompt()
        shown = action if self._substitution is None else self._substitution.text(action)
        ids = self._chat.reply(format_reply(shown, "", self._agent.card.action))
        self._agent.act(ids)
        self.turns.append(Turn(prompt.added, ids, (0.0,) * len(ids), state_key=state_key, restart=prompt.restart))


def play_on(
    env: TextEnv, learners: Mapping[str, Learner], player: Expert | AnyListed, start: tuple[str, Mapping[str, Any]]
) -> dict[str, StopReason]:
    """Let a player act until the episode ends. Returns why it ended for each agent.

    Args:
        env: in the middle of an episode, or at its start.
        learners: by agent; "" is the only one of an environment that names none.
        player: answers the observations of all agents.
        start: the observation that is answered first, which its agent was shown already, and its info.
    """
    observation, info = start
    acting = _acting(env, info)
    terminated = truncated = False
    while not (terminated or truncated):
        action = asked(player, observation, info)
        learners[acting].act(action, str(info.get("state_key", "")))
        observation, reward, terminated, truncated, info = env.step(action)
        for agent, amount in (info["rewards"] if env.seats else {"": reward}).items():
            learners[agent].reward += float(amount)
        acting = _acting(env, info)
        if acting in learners:  # at the end of an episode of several agents, nobody is
            learners[acting].observe(observation, info)
    outcomes = info["outcomes"] if env.seats else {"": {"won": info["won"], "is_truncated": not terminated}}
    return {agent: _stop_reason(outcome) for agent, outcome in outcomes.items()}


def _acting(env: TextEnv, info: Mapping[str, Any]) -> str:
    return str(info["agent"]) if env.seats else ""


def _stop_reason(outcome: Mapping[str, Any]) -> StopReason:
    if outcome["won"]:
        return StopReason.SUCCESS
    return StopReason.STEP_LIMIT if outcome["is_truncated"] else StopReason.FAILURE


def demonstrate(
    env: TextEnv,
    agents: Agents,
    task_id: str,
    *,
    seed: int,
    noise: float,
    player: PlayerKind = "expert",
    substitution: WordSubstitution | None = None,
) -> tuple[Trajectory, ...]:
    """Play one episode of the environment's experts. Returns a trajectory for each agent.

    With a `substitution` the experts read the environment's own texts, and the agents those in other words.
    """
    start = env.reset(seed=seed % 2**31, options={"task_id": task_id})
    expert = player_of(env, start[0], np.random.default_rng(seed), player, noise)
    learners = {spec.agent: Learner(ChatAgent(spec.card, spec.chat), spec.chat, substitution) for spec in agents}
    learners[_acting(env, start[1])].observe(*start)
    stops = play_on(env, learners, expert, start)
    name = f"demonstration/{task_id}/{seed}"
    return tuple(_trajectory(spec, learners[spec.agent], task_id, name, stops[spec.agent]) for spec in agents)


def _trajectory(spec: AgentSpec, learner: Learner, task_id: str, name: str, stop: StopReason) -> Trajectory:
    rewards = {"env": learner.reward}
    if not spec.agent:
        return Trajectory(task_id, name, name, tuple(learner.turns), stop, rewards=rewards)
    info = {"role": spec.role, "player": spec.player, "is_trained": spec.is_trained}
    return Trajectory(task_id, name, name, tuple(learner.turns), stop, spec.agent, rewards=rewards, info=info)


def demonstrations(env: TextEnv, agents: Agents, *, split: str, seed: int, section: SftSection) -> Iterator[Trajectory]:
    """Yield demonstrations of the trained agents without end, over shuffled passes of a split.

    Of experts only the agents that won are learnt from (with `sft.lost` all), of random play all.
    """
    for task_id, own_seed, substitution in _drawn_tasks(env, split, seed, section):
        played = demonstrate(
            env,
            agents,
            task_id,
            seed=own_seed,
            noise=section.noise,
            player=section.player,
            substitution=substitution,
        )
        for spec, trajectory in zip(agents, played, strict=True):
            is_good = trajectory.won or section.lost or section.player == "random"
            if spec.is_trained and trajectory.turns and is_good:
                yield trajectory


def _drawn_tasks(
    env: TextEnv, split: str, seed: int, section: SftSection
) -> Iterator[tuple[str, int, WordSubstitution | None]]:
    """Yield tasks of shuffled passes without end, each with the seed and the substitution of its demonstration."""
    book = Wordbook()
    sampler = TaskSampler(env.task_ids(split), derive_seed(seed, "demonstrations"))
    while True:
        number = sampler.cursor
        task_id = sampler.draw(1)[0]
        own_seed = derive_seed(seed, task_id, number)
        yield task_id, own_seed, _substitution(own_seed, section, book)


def _substitution(seed: int, section: SftSection, book: Wordbook) -> WordSubstitution | None:
    """Return what replaces words and numbers in a demonstration; None if nothing does."""
    rng = np.random.default_rng(derive_seed(seed, "disguise"))
    renumbers = (
        bool(section.renumber) and np.random.default_rng(derive_seed(seed, "numbers")).random() < section.renumber
    )
    if not (section.disguise or renumbers):
        return None
    return WordSubstitution(rng, section.disguise, section.keep_words, book, renumbers=renumbers)
