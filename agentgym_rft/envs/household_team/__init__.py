"""Several agents in one household: the environment, its team plans and its experts."""
