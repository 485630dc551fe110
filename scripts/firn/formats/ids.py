"""Stable identities: of exposures from their paths, of particles from exposure and pick, of half-sets from particles."""

import hashlib


def exposure_id(relative_path: str) -> str:
    """`e` and 12 hex digits, from the path relative to the run folder; the same file always has the same id."""
    return "e" + hashlib.blake2b(relative_path.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()


def particle_id(exposure: str, number: int) -> str:
    """Identity of the number-th pick of an exposure."""
    return f"{exposure}-{number:05d}"


def half_set(particle: str) -> int:
    """1 or 2, a fair coin fixed by the particle's identity."""
    return 1 + hashlib.blake2b(particle.encode(), digest_size=1, salt=b"firn half").digest()[0] % 2
