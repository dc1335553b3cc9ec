"""The synthetic catalogue: products, instructions and clusters, each a pure function of (seed, index)."""

from agentgym_rft.envs.webshop.synth.catalogue import cluster_of, raw_human, raw_instructions, raw_product
from agentgym_rft.envs.webshop.synth.draws import CATALOG_VERSION
from agentgym_rft.envs.webshop.synth.export import export
from agentgym_rft.envs.webshop.synth.store import SyntheticStore

__all__ = ["CATALOG_VERSION", "SyntheticStore", "cluster_of", "export", "raw_human", "raw_instructions", "raw_product"]
