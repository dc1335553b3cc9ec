"""TextWorld: games made offline by the generators of the real engine, and played in it."""
