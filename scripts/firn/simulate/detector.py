"""A counting detector: its gain, its defects, and Poisson counts.

Convention: the gain multiplies the counts, corrected = raw * gain; dead pixels read 0 and have gain 0 in the reference; hot
pixels count far too much and are unknown to the reference.
"""

from dataclasses import dataclass

import numpy as np

HOT_COUNTS = 40.0


@dataclass(frozen=True)
class Detector:
    """gain `(y, x)` float32, dead and hot `(y, x)` bool."""

    gain: np.ndarray
    dead: np.ndarray
    hot: np.ndarray


def random_detector(height: int, width: int, gain_sd: float, dead_count: int, hot_count: int, generator: np.random.Generator) -> Detector:
    """A detector with mean gain 1: a smooth bow, stripes of read-out blocks and a pattern of pixels, together of standard deviation gain_sd."""
    v, u = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    bow = np.cos(1.3 * u + 0.4) * np.cos(1.1 * v - 0.2)
    blocks = np.repeat(generator.normal(size=(1, -(-width // 64))), 64, axis=1)[:, :width]
    pattern = _unit(bow) + 0.5 * _unit(blocks) * np.ones_like(v) + _unit(generator.normal(size=(height, width)))
    gain = np.clip(1 + gain_sd * _unit(pattern), 0.5, 2.0)
    defects = np.zeros(height * width, dtype=np.int8)
    chosen = generator.choice(height * width, size=min(dead_count + hot_count, height * width), replace=False)
    defects[chosen[:dead_count]], defects[chosen[dead_count:]] = 1, 2
    dead, hot = ((defects == kind).reshape(height, width) for kind in (1, 2))
    return Detector((gain / gain.mean()).astype(np.float32), dead, hot)


def gain_reference(detector: Detector) -> np.ndarray:
    """What a user is given: the gain, 0 at dead pixels."""
    return np.where(detector.dead, 0, detector.gain).astype(np.float32)


def count_electrons(expected: np.ndarray, detector: Detector, generator: np.random.Generator) -> np.ndarray:
    """Counts `(y, x)` uint8 of one frame whose expected, gain-corrected counts are given."""
    rate = expected / detector.gain
    rate = np.where(detector.hot, HOT_COUNTS, np.where(detector.dead, 0, rate))
    return np.minimum(generator.poisson(rate), 255).astype(np.uint8)


def _unit(pattern: np.ndarray) -> np.ndarray:
    spread = pattern.std()
    return (pattern - pattern.mean()) / (spread if spread > 0 else 1)
