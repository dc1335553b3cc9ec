"""PettingZoo's tic-tac-toe in words: a renderer, and a function that makes the environment."""

from __future__ import annotations

from typing import Any

from agentgym_rft.envs.adapters.pettingzoo import PettingZooText, Renderer

_MARKS = (".", "X", "O")


class Board(Renderer):
    """The board as three lines. Squares are numbered as in PettingZoo, down the columns: 0 to 2 are the first one."""

    def observe(self, env: Any, agent: str) -> str:
        squares = env.unwrapped.board.squares
        rows = [" ".join(_MARKS[squares[3 * column + row]] for column in range(3)) for row in range(3)]
        mark = _MARKS[1 + env.possible_agents.index(agent)]
        numbers = "0 3 6 / 1 4 7 / 2 5 8"
        return "\n".join([f"You play {mark}; write the number of a free square ({numbers}).", *rows])

    def parse(self, env: Any, agent: str, text: str) -> int | None:
        legal = self.legal(env, agent)
        return int(text.strip()) if text.strip() in legal else None

    def legal(self, env: Any, agent: str) -> list[str]:
        return [str(square) for square, is_free in enumerate(env.observe(agent)["action_mask"]) if is_free]


def make(split: str = "train", max_steps: int = 40) -> PettingZooText:
    """Tic-tac-toe for two; it needs pygame. Who writes two illegal moves in a row loses to the other: -1 and 1."""
    from pettingzoo.classic import tictactoe_v3

    return PettingZooText(tictactoe_v3.env(), Board(), split=split, max_steps=max_steps, forfeit_rewards=(-1.0, 1.0))
