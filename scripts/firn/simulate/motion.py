"""Drift of the specimen while it is exposed: a global trajectory and a field that bends over the image.

Convention: displacements `(..., 2)` xy in pixels say where the specimen has moved to since the first frame, where all are zero.
The field is quadratic in u, v = -1 ... 1 across width and height, as in Zheng et al., Nat. Methods 14, 331 (2017); motion is
largest at the start of the exposure, as in Brilot et al., J. Struct. Biol. 177, 630 (2012).
"""

from dataclasses import dataclass

import numpy as np

TERMS = 6
EARLY_DOSE = 4.0
"""e/Å². Over this dose the early, fast motion decays to 1/e."""


@dataclass(frozen=True)
class Motion:
    """Trajectory `(frames, 2)` xy, and coefficients `(frames, 6, 2)` of 1, u, v, u², uv, v² of the field."""

    trajectory: np.ndarray
    field: np.ndarray

    def local(self, points_uv: np.ndarray) -> np.ndarray:
        """Displacements `(frames, n, 2)` of the field alone at points `(n, 2)`."""
        return np.einsum("nk,fkc->fnc", field_terms(points_uv[:, 0], points_uv[:, 1]), self.field)

    def at(self, points_uv: np.ndarray) -> np.ndarray:
        """Displacements `(frames, n, 2)` at points `(n, 2)`, trajectory and field together."""
        return self.trajectory[:, None] + self.local(points_uv)


def field_terms(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """1, u, v, u², uv, v² as `(..., 6)`."""
    u, v = np.broadcast_arrays(u, v)
    return np.stack((np.ones_like(u), u, v, u * u, u * v, v * v), axis=-1)


def normalised(xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Points `(n, 2)` xy in pixels of an image `(height, width)` as uv in [-1, 1]."""
    return 2 * xy / (np.array([shape[1], shape[0]]) - 1) - 1


def random_motion(frames: int, dose_per_frame: float, drift_px: float, local_px: float, generator: np.random.Generator) -> Motion:
    """A smooth, early-fast trajectory whose path is about drift_px long, and a field of up to about local_px at the corners."""
    dose = np.arange(frames) * dose_per_frame
    early = 1 - np.exp(-dose / EARLY_DOSE)
    late = dose / max(dose[-1], 1e-9)
    heading = generator.uniform(0, 2 * np.pi) + np.array([0.0, generator.uniform(-1.2, 1.2)])
    paths = np.stack((np.cos(heading), np.sin(heading)), axis=-1)
    trajectory = 0.6 * early[:, None] * paths[0] + 0.4 * late[:, None] * paths[1] + 0.15 * _wander(frames, generator)
    coefficients = generator.normal(size=(2, TERMS, 2))
    field = early[:, None, None] * coefficients[0] + 0.3 * late[:, None, None] * coefficients[1]
    field[:, 0] = -(field[:, 3] + field[:, 5]) / 3
    return Motion(drift_px * trajectory, local_px * field / max(_reach(field), 1e-9))


def _wander(frames: int, generator: np.random.Generator) -> np.ndarray:
    """A random walk with smooth steps, zero at first, of length about one."""
    steps = generator.normal(size=(frames, 2))
    steps[1:] = 0.5 * steps[1:] + 0.5 * steps[:-1]
    return np.concatenate((np.zeros((1, 2)), np.cumsum(steps[1:], axis=0))) / max(frames, 1) ** 0.5


def _reach(field: np.ndarray) -> float:
    """Largest displacement over a coarse grid and all frames."""
    axis = np.linspace(-1, 1, 5)
    terms = field_terms(*np.meshgrid(axis, axis)).reshape(-1, TERMS)
    return float(np.linalg.norm(np.einsum("nk,fkc->fnc", terms, field), axis=-1).max())
