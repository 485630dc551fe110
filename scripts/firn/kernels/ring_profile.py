"""Ring profiles of a CTF: averages along lines of equal phase, how well they follow the model, and how far.

Convention: profiles are over frequency pixels, evenly spaced in 1/Å; the model is -cos(2 chi) between -1 and 1.
Source: Zhang, J. Struct. Biol. 193, 1 (2016), equi-phase averages; Rohou & Grigorieff, J. Struct. Biol. 192, 216 (2015).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.ctf import wavelength
from firn.kernels.ctf_fit import Optics

WINDOW_RINGS, LEAST_WINDOW = 0.7, 6.0
"""Standard deviation of the window of a correlation, in rings, and least in pixels."""


def equivalent_s2(s2: Float[Tensor, "n"], defocus: Float[Tensor, "*t n"], mean: float, optics: Optics) -> Float[Tensor, "*t n"]:
    """Squared frequency at which a defocus of `mean` has the phase that `defocus` has at s2 (Zhang 2016, eq. 8).

    Beyond the turning point of the phase, where there is none, the turning point's.
    """
    c = 0.5 * optics.cs_mm * 1e7 * float(wavelength(optics.voltage_kv)) ** 2
    q = defocus * s2 - c * s2**2
    root = torch.sqrt((mean**2 - 4 * c * q).clamp(min=0))
    return 2 * q / (mean + root)


def ring_windows(phase: Float[Tensor, "r"], rings: float = WINDOW_RINGS, least: float = LEAST_WINDOW) -> Float[Tensor, "r r"]:
    """Rows of normalised Gaussian weights around each frequency pixel, of standard deviation some rings (pi of phase) or some pixels."""
    periods = math.pi / torch.gradient(phase)[0].abs().clamp(min=1e-3)
    width = (rings * periods).clamp(least, max(least, len(phase) / 8))
    index = torch.arange(len(phase), device=phase.device, dtype=phase.dtype)
    window = torch.exp(-0.5 * ((index - index[:, None]) / width[:, None]) ** 2)
    return window / window.sum(dim=-1, keepdim=True)


def without_trend(profile: Float[Tensor, "r"], phase: Float[Tensor, "r"]) -> Float[Tensor, "r"]:
    """The profile less what remains of its background: its average over two rings, of what the model does not explain."""
    model = -torch.cos(2 * phase)
    covariance, variance, _ = _moments(profile, model, ring_windows(phase))
    explained = (covariance / variance).clamp(min=0) * model
    return profile - ring_windows(phase, 2.0, 3 * LEAST_WINDOW) @ (profile - explained)


def ring_correlation(profile: Float[Tensor, "r"], model: Float[Tensor, "r"], windows: Float[Tensor, "r r"]) -> Float[Tensor, "r"]:
    """Correlation of a profile with its model in the window around each frequency."""
    covariance, variance_m, variance_p = _moments(profile, model, windows)
    return covariance / (variance_p * variance_m).sqrt()


def _moments(profile: Tensor, model: Tensor, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance and the variances of model and profile in each window."""
    mean_p, mean_m = windows @ profile, windows @ model
    covariance = windows @ (profile * model) - mean_p * mean_m
    variance_m = (windows @ model**2 - mean_m**2).clamp(min=1e-6)
    variance_p = (windows @ profile**2 - mean_p**2).clamp(min=1e-20)
    return covariance, variance_m, variance_p


def fit_resolution(frequency: Float[Tensor, "r"], correlation: Float[Tensor, "r"], worst: float, threshold: float = 0.3) -> float:
    """Resolution in Å at which the correlation first falls under the threshold; `worst` when it is never above it."""
    above = correlation >= threshold
    reached = torch.nonzero(above)
    if len(reached) == 0:
        return worst
    below = torch.nonzero(~above & (torch.arange(len(above), device=above.device) > reached[0]))
    last = int(below[0]) - 1 if len(below) else len(above) - 1
    return float(1 / frequency[last])
