"""Grey scale of each particle against its reference, estimated no better than the images say.

Convention: an image is `scale * ctf * projection + noise`; least squares gives `cross / power`, whose variance is 1 / power when both
are in units of the noise. True scales are taken as Gaussian; their mean and variance come from all particles (empirical Bayes), so
that scales stay at their mean when nothing but noise spreads them. Source: Efron & Morris, J. Am. Stat. Assoc. 70, 311 (1975).
"""

from jaxtyping import Float
from torch import Tensor

ITERATIONS = 50
SMALLEST, LARGEST = 0.1, 4.0


def particle_scales(
    cross: Float[Tensor, " n"], power: Float[Tensor, " n"], former: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], float]:
    """(scales of mean 1, standard deviation of the true scales relative to their mean).

    cross, power: the model's part in each image and the model's power, both with the former scale in the model.
    """
    measured, variance = former * cross / power.clamp(min=1e-12), former**2 / power.clamp(min=1e-12)
    mean, spread = measured.median(), measured.var()
    for _ in range(ITERATIONS):
        precision = 1 / variance + 1 / spread.clamp(min=1e-12)
        scales = (measured / variance + mean / spread.clamp(min=1e-12)) / precision
        weight = 1 / (variance + spread)
        mean = (weight * measured).sum() / weight.sum()
        spread = ((scales - mean).square() + 1 / precision).mean()
    relative = (scales / mean).clamp(SMALLEST, LARGEST)
    return relative / relative.mean(), float(spread.sqrt() / mean)
