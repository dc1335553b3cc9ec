"""Score and success of the scripted customers of WebShop: random, the paper's rule, expert, oracle.

    python benchmarks/webshop_players.py [--data DIR] [--split test] [--preset strict] [--tasks N]

Plays every task of the split once (or the first N of its frozen order): on the embedded synthetic catalogue of seed 0,
or with `--data` on the original files. Prints a Markdown table: mean score, success with its 95 % Wilson interval, and
the number of actions. No player sees more than the page, but the oracle, which knows the product.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from machine import describe

from agentgym_rft.envs.base import Expert
from agentgym_rft.envs.webshop.env import WebShopEnv
from agentgym_rft.envs.webshop.players import RandomPlayer, RulePlayer
from agentgym_rft.report.intervals import wilson

SEED = 0  # of the random player and of the expert's slips
Maker = Callable[[WebShopEnv, str, np.random.Generator], Expert]

PLAYERS: dict[str, Maker] = {
    "random": lambda env, observation, rng: RandomPlayer(rng),
    "rule (search the instruction, buy the first)": lambda env, observation, rng: RulePlayer(),
    "expert, noise 0.2": lambda env, observation, rng: env.expert(observation, rng, 0.2),
    "expert": lambda env, observation, rng: env.expert(observation, rng),
    "oracle": lambda env, observation, rng: env.oracle(),
}


@dataclass(frozen=True)
class Played:
    """Scores and lengths of the episodes of one player."""

    scores: np.ndarray  # [number of tasks]
    lengths: np.ndarray  # [number of tasks], actions

    def row(self, name: str) -> str:
        """A line of the table."""
        won = int((self.scores == 1.0).sum())
        low, high = wilson(won, len(self.scores))
        low_length, middle, high_length = np.percentile(self.lengths, (10, 50, 90))
        return (
            f"| {name} | {100 * self.scores.mean():.1f} | {100 * won / len(self.scores):.1f} "
            f"({100 * low:.1f} to {100 * high:.1f}) | {self.lengths.mean():.1f} "
            f"({low_length:.0f}, {middle:.0f}, {high_length:.0f}) |"
        )


def play(env: WebShopEnv, task_ids: Sequence[str], make: Maker) -> Played:
    """Play every task once."""
    rng = np.random.default_rng(SEED)
    scores, lengths = [], []
    for task_id in task_ids:
        observation, info = env.reset(options={"task_id": task_id})
        player = make(env, observation, rng)
        is_over, length = False, 0
        while not is_over:
            observation, _, terminated, truncated, info = env.step(player.act(observation))
            is_over = terminated or truncated
            length += 1
        scores.append(info["score"])
        lengths.append(length)
    return Played(np.array(scores), np.array(lengths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with the original files; without it the synthetic catalogue")
    parser.add_argument("--split", default="test")
    parser.add_argument("--preset", default="strict")
    parser.add_argument("--tasks", type=int, help="only the first so many tasks")
    args = parser.parse_args()
    env = WebShopEnv(data=args.data, preset=args.preset, observation_mode="text", admissible=False)
    task_ids = env.task_ids(args.split)[: args.tasks]
    print(f"{describe()}; {env.catalog.name}, preset {args.preset}, {len(task_ids)} tasks of {args.split}\n")
    print("| player | score | success, % (95 % interval) | actions, mean (10, 50, 90 %) |\n|---|---|---|---|")
    for name, make in PLAYERS.items():
        print(play(env, task_ids, make).row(name))


if __name__ == "__main__":
    main()
