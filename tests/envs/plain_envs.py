"""Plain gymnasium environments with text on both sides, which know nothing of this package."""

import gymnasium as gym


class Echo(gym.Env):
    """Says back what it heard, to a number of its own; `steps` is the script of what `step` gives."""

    def __init__(self, script=(), observation="Hello.", info=None):
        self.script, self.first, self.first_info = list(script), observation, info or {}
        self.num_closed = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.options, self.secret, self.rest = options, int(self.np_random.integers(10**6)), list(self.script)
        return self.first, self.first_info

    def step(self, action):
        return self.rest.pop(0) if self.rest else (f"{action} {self.secret}", 0.0, False, False, {})

    def close(self):
        self.num_closed += 1


class Numbers(Echo):
    action_space = gym.spaces.Discrete(4)


class Letters(Echo):
    """Declares gymnasium's own text spaces, with their finite character sets."""

    observation_space = action_space = gym.spaces.Text(5)

    def step(self, action):
        return f"You said {action}", 0.0, action == "stop", False, {}
