"""Seeds of random streams: each follows from the run's seed and the purpose of the draw."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed from parts such as (run seed, step, group, member, turn). The same on every machine."""
    digest = hashlib.blake2b("/".join(map(repr, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
