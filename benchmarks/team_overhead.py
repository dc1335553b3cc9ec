"""`overhead` of benchmarks/multi_agent.py: what a turn of one agent and of several costs beside the environment."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from team_env import IdleRoom, IdleTeam

from agentgym_rft.agents.agent import chat_format
from agentgym_rft.agents.card import parse_card
from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.envs.turns import TurnsEnv
from agentgym_rft.rollouts.episode.spec import EpisodeSpec
from agentgym_rft.rollouts.seats import Agents, AgentSpec
from agentgym_rft.rollouts.workers.local import LocalWorkers
from agentgym_rft.trainers.sft.model import train_tokenizer

NUM_AGENTS = (1, 2, 4, 8)
EPISODE_STEPS = 50
NUM_EPISODES = 64

BARE = "PettingZoo's loop: agent_iter, last, step"
STREAM = "one stream of turns (`TurnsEnv`)"
SCRIPTS = "rollouts, scripted agents"
TOKENS = "rollouts with tokens: chat agents, parsing, checks, turns with log-probs"


Speeds = dict[tuple[str, int], float]


def overhead(repeats: int) -> dict[str, Any]:
    """Turns a second in each way with each number of agents, medians of `repeats`, all in one process."""
    ways: dict[str, Callable[[int], Callable[[], None]]] = {
        BARE: _bare,
        STREAM: _stream,
        SCRIPTS: lambda number: _rollouts(number, "random"),
        TOKENS: lambda number: _rollouts(number, ""),
    }
    rows = {way: {str(number): _speed(make(number), repeats) for number in NUM_AGENTS} for way, make in ways.items()}
    return {"episodes": NUM_EPISODES, "turns": EPISODE_STEPS, "rows": rows}


def compared(other: Path, repeats: int) -> str:
    """A Markdown table of this checkout's speeds over those of another one.

    Each checkout runs its own benchmark, `repeats` times, in processes that take turns; a cell has both medians of what
    both know, and the median of the ratios of the pairs.
    """
    checkouts = (other.resolve(), Path(__file__).resolve().parents[1])
    measured: dict[Path, list[Speeds]] = {checkout: [] for checkout in checkouts}
    for number in range(repeats):
        for checkout in checkouts if number % 2 else reversed(checkouts):
            command = [sys.executable, str(checkout / "benchmarks" / "multi_agent.py"), "overhead"]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
            measured[checkout].append(_read(done.stdout))
    before, after = (measured[checkout] for checkout in checkouts)
    lines = ["| way | agents | turns/s there | turns/s here | here / there |", "|---|---:|---:|---:|---:|"]
    for way, agents in (key for key in after[0] if key in before[0]):
        pairs = [(old[way, agents], new[way, agents]) for old, new in zip(before, after, strict=True)]
        there, here = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
        ratio = statistics.median(new / old for old, new in pairs)
        lines.append(f"| {way} | {agents} | {there:,.0f} | {here:,.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def _read(table: str) -> Speeds:
    """Turns a second by way and number of agents, from a table as `show_overhead` writes it in any revision."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line
    ]
    columns = {at: int(name.split()[0]) for at, name in enumerate(head) if name.endswith("turns/s")}
    return {(row[0], number): float(row[at].replace(",", "")) for row in rows for at, number in columns.items()}


def _speed(play: Callable[[], None], repeats: int) -> float:
    play()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        play()
        times.append(time.process_time() - start)
    return NUM_EPISODES * EPISODE_STEPS / statistics.median(times)


def _bare(number: int) -> Callable[[], None]:
    env = IdleTeam(number, EPISODE_STEPS)

    def play() -> None:
        for episode in range(NUM_EPISODES):
            env.reset(seed=episode, options={"task_id": "train"})
            for _ in env.agent_iter():
                _, _, terminated, truncated, _ = env.last()
                env.step(None if terminated or truncated else "look")

    return play


def _stream(number: int) -> Callable[[], None]:
    env = TurnsEnv(IdleTeam(number, EPISODE_STEPS))

    def play() -> None:
        for episode in range(NUM_EPISODES):
            env.reset(seed=episode, options={"task_id": "train"})
            while not env.step("look")[3]:
                pass

    return play


def _rollouts(number: int, player: str) -> Callable[[], None]:
    card = parse_card({"name": "plain", "action": {"max_tokens": 4}})
    tokenizer = train_tokenizer(["look", "You are in the middle of a room.", "You see a door, 3."] * 3, 300)
    chat = chat_format(tokenizer, card)
    reply = [*tokenizer.encode("look", add_special_tokens=False), tokenizer.eos_token_id]
    names = IdleTeam(number).possible_agents if number > 1 else [""]
    agents: Agents = tuple(AgentSpec(name, "agent", card, chat, player, not player) for name in names)
    workers = LocalWorkers(
        lambda: TurnsEnv(IdleTeam(number, EPISODE_STEPS)) if number > 1 else IdleRoom(EPISODE_STEPS),
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
    head = " | ".join(f"{number} agents, turns/s" for number in NUM_AGENTS)
    lines = [f"| way | {head} | us a turn, 2 agents |", "|---|" + "---:|" * (len(NUM_AGENTS) + 1)]
    for way, row in result["rows"].items():
        cells = " | ".join(f"{row[str(number)]:,.0f}" for number in NUM_AGENTS)
        lines.append(f"| {way} | {cells} | {1e6 / row['2']:.1f} |")
    return "\n".join(lines)
