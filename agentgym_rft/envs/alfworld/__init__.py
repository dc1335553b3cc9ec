"""Household tasks in text: our own engine, the real one, a generator of games, and experts."""
