"""Lost keys: a plain gymnasium environment, with what is worth telling an agent and an evaluation in `info`."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

PLACES = ("drawer", "coat", "sofa", "fridge", "car", "basket")
MAX_STEPS = 8


class LostKeys(gym.Env[str, str]):
    """Find the keys: walk to a place, then look.

    Args:
        num_places: among how many places the keys are, from 2 to 6.
    """

    def __init__(self, num_places: int = 4) -> None:
        self.places = PLACES[:num_places]
        self.keys, self.at, self.won, self.num_steps = "", "door", False, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Hide the keys anew: everything random comes from `self.np_random`, which the seed sets."""
        super().reset(seed=seed)
        self.keys = self.places[self.np_random.integers(len(self.places))]
        self.at, self.won, self.num_steps = "door", False, 0
        return f"Your keys are gone. You are at the door. You see: {', '.join(self.places)}.", self.info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answer `go to PLACE` and `look`; any other text costs a step and changes nothing."""
        self.num_steps += 1
        verb, _, place = action.strip().lower().partition("go to ")
        is_valid = True
        if verb == "" and place in self.places:
            self.at = place
            observation = f"You stand before the {place}."
        elif verb == "look":
            self.won = self.at == self.keys
            observation = "The keys!" if self.won else "No keys here."
        else:
            is_valid = False
            observation = "You hesitate."
        truncated = self.num_steps >= MAX_STEPS and not self.won
        return observation, float(self.won), self.won, truncated, self.info(is_valid)

    def info(self, is_valid: bool = True) -> dict[str, Any]:
        """What a prompt may show and an evaluation may count. The keys' place is in the state key only."""
        return {
            "goal": "Find your keys.",
            "won": self.won,
            "invalid_action": not is_valid,
            "admissible_actions": ["look", *(f"go to {place}" for place in self.places)],
            "state_key": f"{self.places} {self.keys} {self.at} {self.num_steps} {self.won}",
        }
