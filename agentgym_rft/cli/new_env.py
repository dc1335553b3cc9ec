"""`agentgym new-env`: writes the skeleton of an environment and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft.errors import ConfigError
from agentgym_rft.report.terminal import say

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_ENV = '''"""{Class}: say what the agent has to do here."""

import gymnasium as gym

from agentgym_rft import register_env

WORDS = ("apple", "bread", "cloud", "dream")
MAX_STEPS = 6


@register_env("my/{Class}-v0")  # the name for --env, wherever this module was imported; a new number if results change
class {Class}(gym.Env):
    """Find a secret word. Observations and actions are text; a task is a seed."""

    def reset(self, *, seed=None, options=None):
        """Start an episode: everything random comes from self.np_random, which the seed sets."""
        super().reset(seed=seed)
        self.word = WORDS[self.np_random.integers(len(WORDS))]
        self.num_steps = 0
        return f"I think of one of: {{', '.join(WORDS)}}. Which?", self.info()

    def step(self, action):
        """Answer an action, which can be any text: never raise because of it."""
        guess = action.strip().lower()
        self.num_steps += 1
        won = guess == self.word
        observation = "Yes!" if won else "No." if guess in WORDS else "Say one of the words."
        reward = 1.0 if won else 0.0  # what training maximises: the sum over the episode
        terminated = won  # the episode came to an end of its own
        truncated = not won and self.num_steps == MAX_STEPS  # it was cut short
        return observation, reward, terminated, truncated, self.info(won, guess not in WORDS)

    def info(self, won=False, invalid=False):
        """Return what agents may know. A key that is left out is filled from reward and history."""
        return {{
            "won": won,  # is the episode won? A win has score 1 and terminates
            "score": float(won),  # from 0 to 1, also where it is not won
            "invalid_action": invalid,  # was the last action impossible?
            "admissible_actions": list(WORDS),  # what is possible now
            "state_key": f"{{self.word}} {{self.num_steps}} {{won}}",  # equal if and only if the states are
        }}
'''

_TEST = '''"""The environment keeps the contract, is won by the right word and lost without it."""

from agentgym_rft.envs import check_env, make_env

from {name} import MAX_STEPS, WORDS

ENV = "{name}:{Class}"


def test_it_keeps_the_contract():
    check_env(ENV)


def test_the_right_word_wins():
    env = make_env(ENV)
    env.reset(options={{"task_id": "seed-3"}})
    outcomes = [env.step(word) for word in WORDS[: WORDS.index(env.env.word) + 1]]
    observation, reward, terminated, truncated, info = outcomes[-1]
    assert observation == "Yes!"
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["won"]


def test_other_texts_are_answered_until_the_episode_is_cut():
    env = make_env(ENV)
    env.reset(options={{"task_id": "seed-3"}})
    outcomes = [env.step("what?") for _ in range(MAX_STEPS)]
    assert outcomes[0][0] == "Say one of the words."
    assert [truncated for _, _, _, truncated, _ in outcomes] == [False] * (MAX_STEPS - 1) + [True]
    assert not outcomes[-1][-1]["won"]
'''


def new_env_command(
    name: Annotated[str, typer.Argument(help="Name of the module, such as my_env.")],
    out: Annotated[Path, typer.Option(help="Directory to write into; default: the current one.")] = Path(),
) -> None:
    """Write NAME.py, a small environment that works, and test_NAME.py. Existing files are never overwritten."""
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name):
        raise ConfigError(f"'{name}' is no name for a module: use small letters, digits and underscores, as in my_env.")
    if not out.is_dir():
        raise ConfigError(f"There is no directory '{out}' to write '{name}.py' to.")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    texts = {f"{name}.py": _ENV, f"test_{name}.py": _TEST}
    for file in texts:
        if (out / file).exists():
            raise ConfigError(f"'{out / file}' exists already and is left as it is: choose another name.")
    if importlib.util.find_spec(name) is not None:
        raise ConfigError(f"There is a module '{name}' already, which '{name}.py' would hide: choose another name.")
    for file, text in texts.items():
        try:
            with (out / file).open("x", encoding="utf-8") as stream:
                stream.write(text.format(name=name, Class=class_name))
        except OSError as error:
            raise ConfigError(f"Cannot write '{out / file}': {error.strerror}.") from error
        say(f"wrote {out / file}")
    say(f"next: agentgym check-env {name}:{class_name}")
