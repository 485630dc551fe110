"""The detector's fixed pattern in the mean of raw frames: which way round a gain lies, whether it divides, and what it is when missing.

Convention: a raw frame is signal / gain, so that the mean of raw frames over smooth surroundings, less 1, is 1 / gain over its
surroundings, less 1, plus noise. Patterns are relative deviations `(y, x)`, 0 where they are not known.
An orientation turns first and then mirrors left against right: four turns and two mirrors are all eight. A gain that divides shows
the same pattern with the opposite sign.
Evidence is the log-likelihood of a Gaussian pattern with unknown amplitude, `-n/2 ln(1 - r²)`, r being the correlation over n pixels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

REACH_PX = 17
CLIP_SD = 8.0
MIDDLE_PX = 2048
"""Side of the part of a detector on which orientations are compared."""
CLEAR_EVIDENCE = 60.0
"""Least difference of log-likelihood between the best orientation and the next; noise that is not white makes differences too large."""
CLEAR_SD = 12.0
"""Least correlation, in units of its standard deviation without any pattern."""


@dataclass(frozen=True)
class Orientation:
    """Quarter turns counter-clockwise as seen with row 0 at the bottom, then a mirror left against right; divides inverts the gain."""

    rotate: int
    flip_x: bool
    divides: bool = False

    @classmethod
    def given(cls, rotate: int, flip_x: bool, flip_y: bool, divides: bool = False) -> "Orientation":
        """The same as turning, then mirroring along x, y or both: a mirror top against bottom is half a turn and the other mirror."""
        return cls((rotate + 2 * flip_y) % 4, flip_x != flip_y, divides)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The image `(y, x)` in this orientation."""
        turned = np.rot90(image, -self.rotate)
        return turned[:, ::-1] if self.flip_x else turned

    def __str__(self) -> str:
        words = [f"{self.rotate} quarter turn{'s' if self.rotate != 1 else ''}"]
        words += ["mirrored left against right"] if self.flip_x else []
        words += ["dividing"] if self.divides else []
        return ", ".join(words)

    @property
    def short(self) -> str:
        """A label such as `90° mirrored`."""
        return f"{90 * self.rotate}°" + (" mirrored" if self.flip_x else "")


ORIENTATIONS = tuple(Orientation(rotate, flip) for flip in (False, True) for rotate in range(4))


@dataclass(frozen=True)
class Finding:
    """Correlation of each orientation that fits with the mean frame (its sign says whether the gain divides), best first found.

    evidence: log-likelihood of the best over the next one; expected: correlation that a perfect gain would have reached.
    """

    best: Orientation
    correlations: dict[Orientation, float]
    evidence: float
    sigmas: float
    expected: float

    @property
    def clear(self) -> bool:
        """Whether the best orientation stands out beyond doubt."""
        return self.evidence >= CLEAR_EVIDENCE and self.sigmas >= CLEAR_SD

    @property
    def absent(self) -> bool:
        """Whether the gain's pattern would have been seen in any orientation, had it been there."""
        return self.sigmas < CLEAR_SD / 2 and self.sigmas < 0.2 * self.expected


def fixed_pattern(image: np.ndarray, known: np.ndarray | None = None, reach: int = REACH_PX) -> tuple[np.ndarray, np.ndarray]:
    """(deviation `(y, x)` from the surroundings of reach pixels, relative, float32; where it is known).

    Unknown are pixels without counts, and those that deviate by more than 8 standard deviations: they are hot or dead, and are left out
    of the surroundings too. A lower limit would cut into the skew tail of few counts, more where the rate is high, and hide the pattern.
    """
    good = np.isfinite(image) & (image >= 0) if known is None else known & np.isfinite(image)
    pattern = _deviation(image, good, reach)
    good &= np.abs(pattern) <= CLIP_SD * _spread(pattern[good])
    return _deviation(image, good, reach), good


def _deviation(image: np.ndarray, good_: np.ndarray, reach: int) -> np.ndarray:
    """Relative deviation; good loses the pixels whose surroundings are mostly unknown or empty."""
    weight = uniform_filter(good_.astype(np.float32), reach, mode="constant")
    smooth = uniform_filter(np.where(good_, image, 0).astype(np.float32), reach, mode="constant")
    good_ &= (weight > 0.2) & (smooth > 0)
    return np.where(good_, image * weight / np.where(good_, smooth, 1) - 1, 0).astype(np.float32)


def _spread(values: np.ndarray) -> float:
    """Standard deviation without the outermost thousandth at either end; infinite where there are no values."""
    sample = values[:: max(1, len(values) // 500_000)]
    if not len(sample):
        return np.inf
    low, high = np.percentile(sample, [0.1, 99.9])
    return max(float(sample[(sample >= low) & (sample <= high)].std()), 1e-6)


def find_orientation(mean: np.ndarray, gain: np.ndarray) -> Finding | None:
    """Which of the eight orientations, and which sign, makes the gain fit the mean `(y, x)` of raw frames; None when none has its shape.

    Defects of the gain (0) are left out; both patterns are freed of what is smooth. Of large detectors the middle is compared.
    """
    candidates = [orientation for orientation in ORIENTATIONS if orientation.apply(gain).shape == mean.shape]
    mean, gain = _middle(mean), _middle(gain)
    observed, seen = fixed_pattern(mean)
    expected, known = fixed_pattern(np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0), gain > 0)
    scores: dict[Orientation, float] = {}
    pixels = 1
    for orientation in candidates:
        both = seen & orientation.apply(known)
        pixels = max(1, int(both.sum()))
        scores[orientation] = _correlation(observed[both], orientation.apply(expected)[both])
    if not scores:
        return None
    best = max(scores, key=lambda orientation: abs(scores[orientation]))
    found = Orientation(best.rotate, best.flip_x, scores[best] < 0)
    spread = float(observed[seen].std()) if seen.any() else 0.0
    ideal = min(1.0, float(expected[known].std()) / spread) if spread > 0 and known.any() else 0.0
    return Finding(found, scores, _evidence(scores, best, pixels), abs(scores[best]) * pixels**0.5, ideal * pixels**0.5)


def estimate_gain(halves: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, float, float]:
    """(gain `(y, x)` float32 with mean about 1 and 0 at dead pixels, its pattern's and its error's relative standard deviation).

    halves: means of raw frames of two independent sets of movies. What both share is the detector's; the deviations are shrunk by the
    share of the variance that is shared, which makes their mean square error least (Wiener).
    """
    total = halves[0] + halves[1]
    alive = (total > 0) | (uniform_filter(total, REACH_PX) <= 0)
    first, second = (fixed_pattern(half, alive) for half in halves)
    pattern, known = fixed_pattern(total, alive)
    known &= first[1] & second[1]
    shared = max(0.0, float(np.mean((first[0] * second[0])[known]))) if known.any() else 0.0
    noise = float(np.mean((first[0] - second[0])[known] ** 2)) / 4 if known.any() else 0.0
    kept = shared / (shared + noise) if shared > 0 else 0.0
    gain = 1 / np.maximum(1 + kept * pattern, 0.1)
    return np.where(alive, gain, 0).astype(np.float32), shared**0.5, (kept * noise) ** 0.5


def residual_pattern(halves: tuple[np.ndarray, np.ndarray], gain: np.ndarray) -> tuple[float, float]:
    """Relative standard deviation of the detector's fixed pattern, (before, after) the gain, from what two sets of movies share in the middle."""
    halves, gain = (_middle(halves[0]), _middle(halves[1])), _middle(gain)
    good = gain > 0
    before = _shared(*(fixed_pattern(half, good) for half in halves))
    after = _shared(*(fixed_pattern(half * gain, good) for half in halves))
    return before, after


def _shared(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    both = first[1] & second[1]
    return max(0.0, float(np.mean(first[0][both] * second[0][both]))) ** 0.5 if both.any() else 0.0


def _middle(image: np.ndarray) -> np.ndarray:
    """The middle `(y, x)`, cut so that turning and mirroring it and the whole are the same; the whole where it is small or cannot be."""
    height, width = image.shape
    if (height - width) % 2 or min(height, width) < MIDDLE_PX:
        return image
    side = MIDDLE_PX + height % 2
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.dot(a, a) * np.dot(b, b)) ** 0.5
    return float(np.dot(a, b) / norm) if norm > 0 else 0.0


def _evidence(scores: dict[Orientation, float], best: Orientation, pixels: int) -> float:
    """Log-likelihood of the best over that of the next, which may be of the other sign, but no pattern at all counts as 0."""
    sign = np.sign(scores[best])
    others = [max(0.0, sign * score) for orientation, score in scores.items() if orientation != best]
    others += [max(0.0, -sign * score) for score in scores.values()]
    best_score, next_score = min(abs(scores[best]), 1 - 1e-9), min(max(others), 1 - 1e-9)
    return float(pixels / 2 * (np.log1p(-(next_score**2)) - np.log1p(-(best_score**2))))
