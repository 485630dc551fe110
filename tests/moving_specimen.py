"""A tiny movie of blobs that drift and part, drawn at exact sub-pixel places, counted electron by electron."""

import numpy as np

SIDE, FRAMES, BLOBS = 256, 9, 220


def displacement(y: np.ndarray, x: np.ndarray, drift: float, local: float) -> np.ndarray:
    """Displacements `(f, n, 2)` yx in px at points `(n,)` in px: a fast start, then a crawl; the local part grows from left to right."""
    time = np.linspace(0, 1, FRAMES)
    early = 1 - np.exp(-4 * time)
    away = 2 * x / SIDE - 1
    dy = drift * early[:, None] + local * early[:, None] * away
    dx = -0.5 * drift * time[:, None] - 0.5 * local * early[:, None] * (2 * y / SIDE - 1)
    return np.stack(np.broadcast_arrays(dy, dx), axis=-1)


def expected_counts(drift: float, local: float, dose_px: float = 8.0, seed: int = 0) -> np.ndarray:
    """Expected counts `(f, y, x)`."""
    generator = np.random.default_rng(seed)
    y, x = generator.uniform(0, SIDE, (2, BLOBS))
    shifts = displacement(y, x, drift, local)
    depth = generator.uniform(0.3, 0.6, BLOBS)
    frames = np.ones((FRAMES, SIDE, SIDE))
    axis = np.arange(SIDE)
    for frame, moved in zip(frames, shifts, strict=True):
        rows = np.exp(-((axis[:, None] - y - moved[:, 0]) ** 2) / 8)
        columns = np.exp(-((axis[:, None] - x - moved[:, 1]) ** 2) / 8)
        frame -= (rows * depth) @ columns.T
    return dose_px * np.clip(frames, 0.05, None)


def counted_movie(drift: float, local: float, dose_px: float = 8.0, seed: int = 0) -> np.ndarray:
    """Counts `(f, y, x)`, uint8."""
    return np.random.default_rng(seed + 1).poisson(expected_counts(drift, local, dose_px, seed)).clip(0, 255).astype(np.uint8)
