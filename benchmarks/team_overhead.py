"""AgentState `overhead` of benchmarks/multi_agent.py: what a turn costs beside the environment."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from team_env import IdleTeam

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seats import Agents, AgentSpec
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.sft.model import train_tokenizer

SEATS = (2, 4, 8)
EPISODE_STEPS = 50
NUM_EPISODES = 64

BARE = "PettingZoo's loop: agent_iter, last, step"
STREAM = "one stream of turns (`TurnsEnv`)"
SCRIPTS = "rollouts, scripted seats"
TOKENS = "rollouts with tokens: chat agents, parsing, checks, turns with log-probs"


def overhead(repeats: int) -> dict[str, Any]:
    """Turns a second in each way at each number of seats, medians of `repeats`, all in one process."""
    ways: dict[str, Callable[[int], Callable[[], None]]] = {
        BARE: _bare,
        STREAM: _stream,
        SCRIPTS: lambda seats: _rollouts(seats, "random"),
        TOKENS: lambda seats: _rollouts(seats, ""),
    }
    rows = {way: {str(seats): _speed(make(seats), repeats) for seats in SEATS} for way, make in ways.items()}
    return {"episodes": NUM_EPISODES, "turns": EPISODE_STEPS, "rows": rows}


def _speed(play: Callable[[], None], repeats: int) -> float:
    play()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        play()
        times.append(time.perf_counter() - start)
    return NUM_EPISODES * EPISODE_STEPS / statistics.median(times)


def _bare(seats: int) -> Callable[[], None]:
    env = IdleTeam(seats, EPISODE_STEPS)

    def play() -> None:
        for episode in range(NUM_EPISODES):
            env.reset(seed=episode, options={"task_id": "train"})
            for _ in env.agent_iter():
                _, _, terminated, truncated, _ = env.last()
                env.step(None if terminated or truncated else "look")

    return play


def _stream(seats: int) -> Callable[[], None]:
    env = TurnsEnv(IdleTeam(seats, EPISODE_STEPS))

    def play() -> None:
        for episode in range(NUM_EPISODES):
            env.reset(seed=episode, options={"task_id": "train"})
            while not env.step("look")[3]:
                pass

    return play


def _rollouts(seats: int, player: str) -> Callable[[], None]:
    card = parse_card({"name": "plain", "action": {"max_tokens": 4}})
    tokenizer = train_tokenizer(["look", "You are in the middle of a room.", "You see a door, 3."] * 3, 300)
    chat = chat_format(tokenizer, card)
    reply = [*tokenizer.encode("look", add_special_tokens=False), tokenizer.eos_token_id]
    agents = IdleTeam(seats).possible_agents
    agents: Agents = tuple(AgentSpec(agent, "agent", card, chat, player, not player) for agent in agents)
    workers = LocalWorkers(
        lambda: TurnsEnv(IdleTeam(seats, EPISODE_STEPS)),
        card,
        tokenizer,
        ScriptedPolicy(lambda prompt: reply),
        max_concurrency=NUM_EPISODES,
        max_context=4096,
        agents=agents,
    )

    async def play_all() -> None:
        for episode in range(NUM_EPISODES):
            spec = EpisodeSpec("train", "g", f"e{episode}", episode, 1.0, EPISODE_STEPS, 4096)
            trajectory = await workers.play(spec)
            assert len(trajectory.turns) == EPISODE_STEPS, trajectory.info

    return lambda: workers.run(play_all)


def show_overhead(result: dict[str, Any]) -> str:
    """A Markdown table."""
    head = " | ".join(f"{seats} seats, turns/s" for seats in SEATS)
    lines = [f"| way | {head} | us a turn, {SEATS[0]} seats |", "|---|" + "---:|" * (len(SEATS) + 1)]
    for way, row in result["rows"].items():
        cells = " | ".join(f"{row[str(seats)]:,.0f}" for seats in SEATS)
        lines.append(f"| {way} | {cells} | {1e6 / row[str(SEATS[0])]:.1f} |")
    return "\n".join(lines)
