"""Single-turn arithmetic with a verifier."""
