"""Multi-hop question answering over a small fictional encyclopedia."""
