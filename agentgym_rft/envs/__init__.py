"""Text environments: the contract, its checker, and one folder per environment."""

from agentgym_rft.envs.base import AnyText, TextEnv
from agentgym_rft.envs.check.run import check_env
from agentgym_rft.envs.making import make_env

__all__ = ["AnyText", "TextEnv", "check_env", "make_env"]
