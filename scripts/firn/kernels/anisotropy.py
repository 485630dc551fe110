"""How resolution and sampling depend on direction: Fourier correlation in cones and in central planes, and sampling of Fourier space.

Convention: directions are zyx unit vectors; one and its opposite mean the same. A viewing direction is the third column of R in xyz (the
first in zyx), and its image measures the central plane across it. Correlations are summed by shell (kernels.fsc) and by cells of
two degrees, so that the cost of a cone does not depend on the box; a cone's edge is therefore one degree uncertain.
Sources: conical FSC, Tan et al., Nat. Methods 14, 793 (2017); sampling, Baldwin & Lyumkis, Prog. Biophys. Mol. Biol. 150, 160 (2020).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.fourier import frequencies3, hermitian_weights, rfft3
from firn.kernels.fsc import shell_indices
from firn.kernels.rotation import euler_matrices
from firn.kernels.sampling import spiral_directions

POLAR_CELLS, AZIMUTH_CELLS = 45, 180
CHUNK = 256


def half_sphere(count: int) -> tuple[Float[Tensor, "d 2"], Float[Tensor, "d 3"]]:
    """Directions spread evenly over half a sphere: (rot, tilt) in degrees, and zyx unit vectors."""
    angles = spiral_directions(2 * count)[:count]
    return angles, viewing_directions(euler_matrices(torch.cat((angles, torch.zeros(count, 1, dtype=angles.dtype)), dim=-1)))


def viewing_directions(rotations: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3"]:
    """Directions along which images with these poses look at the volume."""
    return rotations[:, :, 0]


def correlation_sums(first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"]) -> Float[Tensor, "c s 3"]:
    """Sums of the cross term and both powers, float64, by cell of direction and by shell 0 ... n // 2."""
    n, shells = first.shape[-1], first.shape[-1] // 2 + 1
    indices = shell_indices((n, n, n), first.device).reshape(-1)
    inside = torch.nonzero(indices < shells).squeeze(-1)
    cells = _cells(frequencies3((n, n, n), first.device).reshape(-1, 3)[inside])
    a, b = (rfft3(volume).reshape(-1)[inside] for volume in (first, second))
    weights = hermitian_weights(n, first.device).expand(n, n, -1).reshape(-1)[inside].double()
    terms = torch.stack(((a * b.conj()).real, a.real**2 + a.imag**2, b.real**2 + b.imag**2), dim=-1).double() * weights[:, None]
    sums = terms.new_zeros(POLAR_CELLS * AZIMUTH_CELLS * shells, 3)
    return sums.index_add(0, cells * shells + indices[inside], terms).reshape(-1, shells, 3)


def conical_fsc(sums: Float[Tensor, "c s 3"], axes: Float[Tensor, "d 3"], half_angle: float) -> Float[Tensor, "d s"]:
    """FSC within half_angle degrees of each axis."""
    limit = math.cos(math.radians(half_angle))
    return torch.cat([_section_fsc(sums, _closeness(part) >= limit) for part in axes.split(CHUNK)])


def planar_fsc(sums: Float[Tensor, "c s 3"], views: Float[Tensor, "d 3"], half_angle: float) -> Float[Tensor, "d s"]:
    """FSC within half_angle degrees of the plane that an image with each viewing direction measures."""
    limit = math.sin(math.radians(half_angle))
    return torch.cat([_section_fsc(sums, _closeness(part) <= limit) for part in views.split(CHUNK)])


def area_under(curves: Float[Tensor, "d s"], threshold: float) -> Float[Tensor, " d"]:
    """Area in shells under each curve up to where it first falls below the threshold."""
    alive = torch.cumprod((curves[:, 1:] >= threshold).to(curves.dtype), dim=1)
    return (alive * curves[:, 1:]).sum(1)


def plane_counts(views: Float[Tensor, "n 3"], points: Float[Tensor, "d 3"], radius: float) -> Float[Tensor, " d"]:
    """How many of the views' central planes, one Fourier pixel thick, pass through each direction at a radius in Fourier pixels."""
    limit = 0.5 / radius
    return torch.stack([((point @ views.T).abs() < limit).sum(-1).sum(0) for point in points[:, None]]).to(points.dtype)


def sampling_compensation(counts: Float[Tensor, " d"]) -> tuple[float, float]:
    """(SCF*, share of directions that no image measures) from plane_counts.

    SCF is the harmonic over the arithmetic mean of the counts: 1 when uniform, 8 / π² = 0.81 for side views about one axis. SCF* lowers it
    for what is not measured at all: SCF / (1 + Q/P * mean * SCF / 2), with Q and P the shares without and with measurement.
    """
    sampled = counts[counts > 0].double()
    if not len(sampled):
        return 0.0, 1.0
    mean, missing = float(counts.double().mean()), 1 - len(sampled) / len(counts)
    plain = 1 / (float((1 / sampled).mean()) * mean)
    return plain / (1 + missing / (1 - missing) * mean * plain / 2), missing


def _cells(points: Float[Tensor, "m 3"]) -> Int[Tensor, " m"]:
    """Number of the cell of each direction: polar angle from x (0 to 90 degrees) and azimuth around it."""
    z, y, x = points.unbind(-1)
    polar = torch.atan2(torch.hypot(z, y), x.abs())
    azimuth = torch.remainder(torch.atan2(torch.where(x < 0, -z, z), torch.where(x < 0, -y, y)), 2 * math.pi)
    row = (polar * (POLAR_CELLS / (math.pi / 2))).long().clamp(max=POLAR_CELLS - 1)
    return row * AZIMUTH_CELLS + (azimuth * (AZIMUTH_CELLS / (2 * math.pi))).long().clamp(max=AZIMUTH_CELLS - 1)


def _closeness(directions: Float[Tensor, "d 3"]) -> Float[Tensor, "d c"]:
    """Absolute cosine between directions and the middles of the cells."""
    polar = (torch.arange(POLAR_CELLS, device=directions.device) + 0.5) * (math.pi / 2 / POLAR_CELLS)
    azimuth = (torch.arange(AZIMUTH_CELLS, device=directions.device) + 0.5) * (2 * math.pi / AZIMUTH_CELLS)
    across = torch.sin(polar)[:, None]
    middles = torch.stack(
        (across * torch.sin(azimuth), across * torch.cos(azimuth), torch.cos(polar)[:, None].expand(-1, AZIMUTH_CELLS)), dim=-1
    )
    return (directions @ middles.reshape(-1, 3).to(directions.dtype).T).abs()


def _section_fsc(sums: Float[Tensor, "c s 3"], chosen: Bool[Tensor, "d c"]) -> Float[Tensor, "d s"]:
    """Correlation of the chosen cells; where they hold no point, that of the whole shell."""
    totals = (chosen.to(sums.dtype) @ sums.flatten(1)).unflatten(-1, sums.shape[1:])
    whole = _correlation(sums.sum(0))
    curves = torch.where(totals[..., 1] * totals[..., 2] > 0, _correlation(totals), whole)
    curves[:, 0] = 1.0
    return curves


def _correlation(totals: Tensor) -> Tensor:
    return totals[..., 0] / (totals[..., 1] * totals[..., 2]).clamp(min=torch.finfo(torch.float64).tiny).sqrt()
