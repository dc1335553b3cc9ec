"""agentgym_rft: reinforcement fine-tuning of LLM agents in multi-turn text environments.

Importing this package makes its environments known to `gymnasium.make`; torch is imported only where it is used.
"""

from agentgym_rft.registry import register_env

__version__ = "0.1.0"

__all__ = ["__version__", "register_env"]
