"""The agents of an environment: the role, the agent card and the policy of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import AgentCard, load_card
from agentgym_rft.agents.chat import ChatFormat
from agentgym_rft.config.load import merge
from agentgym_rft.config.run import AgentSection, Config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.config.team import SeatSection, TeamSection
from agentgym_rft.envs.making import seats_of
from agentgym_rft.errors import ConfigError, did_you_mean

TRAINED = "trained"
SCRIPTS = ("oracle", "expert", "random")  # of the environment


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One agent of an episode.

    `agent` is "" for the only agent of an environment that does not name it. `player` is a key of the routed policy
    (see `RoutedPolicy`) or one of `SCRIPTS`. `is_trained`: its actions are trained. An agent that a script plays has no
    tokens and does not use its chat format.
    """

    agent: str
    role: str
    card: AgentCard
    chat: ChatFormat
    player: str
    is_trained: bool

    @property
    def is_scripted(self) -> bool:
        return self.player in SCRIPTS


Agents = tuple[AgentSpec, ...]


def seat_section(agent: str, role: str, sections: Mapping[str, SeatSection]) -> SeatSection:
    """Return the settings of an agent: those under its name, or under its role.

    Raises:
        ConfigError: both are there, so it is not clear which of them plays.
    """
    found = [name for name in dict.fromkeys((agent, role)) if name in sections]
    if len(found) > 1:
        raise ConfigError(
            f"Two policies for one seat: '{agent}' is configured under team.seats.{agent} and, by its role, under "
            f"team.seats.{role}. Keep one of them."
        )
    return sections[found[0]] if found else SeatSection()


def player_key(section: SeatSection, role: str, team: TeamSection) -> str:
    """Return who plays an agent: a script, the name of a policy that is not trained, or the key of the trained one."""
    if section.policy != TRAINED:
        return section.policy
    return role if team.weights == "separate" else ""


def check_seats(roles: Mapping[str, str], sections: Mapping[str, SeatSection]) -> None:
    """Raise `ConfigError` for a section that names neither an agent nor a role, or if nothing would be trained."""
    known = list(dict.fromkeys((*roles, *roles.values())))
    for name in sections:
        if name not in known:
            if not known:
                raise ConfigError(f"There is no seat '{name}': the environment has one agent. Leave out team.seats.")
            raise ConfigError(f"The environment has no seat '{name}'.{did_you_mean(name, known)}")
    for agent, role in roles.items():
        seat_section(agent, role, sections)


def make_agents(
    roles: Mapping[str, str],
    sections: Mapping[str, SeatSection],
    cards: Mapping[str, AgentCard],
    keys: Mapping[str, str],
    tokenizer: Any,
) -> Agents:
    """Return the agents of an environment.

    Args:
        roles: agents' names in the order of play, each with its role.
        sections: the configuration's, by agent or role.
        cards: by agent.
        keys: who plays, by agent: a key of the routed policy or a script.
        tokenizer: of all policies.
    Raises:
        ConfigError: two policies for one agent.
    """
    chats = {card: chat_format(tokenizer, card) for card in set(cards.values())}
    agents = []
    for agent, role in roles.items():
        section = seat_section(agent, role, sections)
        card = cards[agent]
        agents.append(AgentSpec(agent, role, card, chats[card], keys[agent], section.policy == TRAINED))
    return tuple(agents)


def only_agent(card: AgentCard, chat: ChatFormat) -> Agents:
    """Return the one agent of an environment that does not name it; the trained policy plays it."""
    return (AgentSpec("", "", card, chat, "", is_trained=True),)


def scripted_agent(agent: str, role: str, script: str) -> AgentSpec:
    """Return an agent that a script plays, without a card, a chat format or tokens."""
    no_chat: Any = None
    return AgentSpec(agent, role, AgentCard(name=script), no_chat, script, is_trained=False)


def with_players(agents: Agents, players: Mapping[str, str]) -> Agents:
    """Return the agents of one episode; those in `players` are played by others and not trained.

    Raises `KeyError` for an unknown agent.
    """
    if not players:
        return agents
    by_name = {each.agent: each for each in agents}
    for agent, player in players.items():
        by_name[agent] = replace(by_name[agent], player=player, is_trained=False)
    return tuple(by_name.values())


def open_agents(config: Config, tokenizer: Any) -> Agents:
    """Return the agents of the run's environment as `team.seats` configures them; none where it has one agent.

    Raises:
        ConfigError: a seat is configured twice or is not there, or its card is wrong.
    """
    roles = seats_of(config.env.id, config.env.options)
    sections = config.team.seats
    check_seats(roles, sections)
    cards, keys = {}, {}
    for agent, role in roles.items():
        section = seat_section(agent, role, sections)
        cards[agent] = seat_card(config, section)
        keys[agent] = player_key(section, role, config.team)
    return make_agents(roles, sections, cards, keys, tokenizer)


def template_notes(config: Config, tokenizer: Any) -> tuple[str, ...]:
    """Return what users would not expect of the policy's chat template under the run's agent cards, as sentences."""
    card = load_card(config.agent)
    return notes_of(open_agents(config, tokenizer) or only_agent(card, chat_format(tokenizer, card)))


def notes_of(agents: Agents) -> tuple[str, ...]:
    """Return the same of agents that are there, each sentence once."""
    return tuple(dict.fromkeys(note for each in agents if not each.is_scripted for note in each.chat.notes))


def seat_card(config: Config | SftConfig, section: SeatSection) -> AgentCard:
    """Return the card of an agent: its own or the run's, with the overrides of both. Raises `ConfigError`."""
    own = merge(config.agent.overrides, section.overrides) if section.card is None else section.overrides
    return load_card(AgentSection(card=section.card or config.agent.card, overrides=own, date=config.agent.date))


def trained_seats(config: Config) -> dict[str, str]:
    """Return the agents that are trained, in the order of play, each with its role; none where there is one agent.

    Raises:
        ConfigError: a seat is configured twice or is not there.
    """
    roles = seats_of(config.env.id, config.env.options)
    check_seats(roles, config.team.seats)
    return {
        agent: role for agent, role in roles.items() if seat_section(agent, role, config.team.seats).policy == TRAINED
    }


def trained_policies(config: Config) -> tuple[str, ...]:
    """Return the keys of the policies that a run trains, in the order of their first seats; ("",) for one policy for
    all.

    Raises:
        ConfigError: a seat is configured twice or is not there.
    """
    if config.team.weights == "shared":
        return ("",)
    return tuple(dict.fromkeys(trained_seats(config).values())) or ("",)
