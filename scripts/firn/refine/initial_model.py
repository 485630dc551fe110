"""Maximisation step of ab-initio reconstruction: running Fourier sums of each class, turned into constrained volumes.

The sums forget: each batch enters with a weight, the rest fades (online EM: Cappé & Moulines, J. R. Stat. Soc. B 71, 593, 2009).
Several classes are Wiener-filtered by the correlation between their folds. Constraints follow Punjani et al., Nat. Methods 14, 290 (2017): a soft solvent sphere, density not below the solvent's.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.backproject import completed, empty_sums, insert_points_, reconstruct, shell_weights, symmetrise_sums
from firn.kernels.filter import low_pass_volume
from firn.kernels.fourier import frequencies3, irfft3, rfft3, shift_phases
from firn.kernels.fsc import fsc, shell_average, shell_indices
from firn.kernels.grid import FourierDisc
from firn.kernels.spectrum import cropped_side, resize_spectrum3
from firn.kernels.symmetry import symmetrize_volume
from firn.refine.class_hands import inverted
from firn.refine.initial_data import Geometry
from firn.refine.initial_search import Slices
from firn.refine.maximisation import full_correlation

PRIOR_SHARE = 0.1
"""Wiener prior relative to the mean weight of each shell."""
LEAST_CORRELATION = 1e-3
"""Squared correlations below this count as this, so that no shell vanishes for good."""
HAND_SHARE = 0.3
"""Amplitude of a hand drawn at random, in that of the volume."""
HIGHEST_DEGREE = 8
"""Angular degrees up to this may come out with the wrong sign at low resolution; degree 1 is a shift."""

Sums = tuple[Tensor, Tensor]


def random_volume(
    geometry: Geometry, solvent: Float[Tensor, "n n n"], resolution: float, group: str, generator: torch.Generator
) -> Float[Tensor, "n n n"]:
    """Low-passed positive noise inside the solvent sphere, with the point group's symmetry."""
    n = geometry.n
    noise = torch.randn(n, n, n, generator=generator).to(solvent.device)
    frequencies = frequencies3((n, n, n), solvent.device).norm(dim=-1) / geometry.pixel_size
    smooth = irfft3(rfft3(noise) * torch.exp(-0.5 * (frequencies * resolution) ** 2), (n, n, n)) * solvent
    return symmetrize_volume(smooth, group).clamp(min=0)


def with_random_hand(
    volume: Float[Tensor, "n n n"],
    geometry: Geometry,
    solvent: Float[Tensor, "n n n"],
    resolution: float,
    group: str,
    chance: torch.Generator,
) -> Float[Tensor, "n n n"]:
    """The volume at a resolution, and what tells it from its image by inversion drawn at random: HAND_SHARE as strong in each shell."""
    drawn = torch.randn(volume.shape, generator=chance).to(volume.device)
    smooth, noise = (low_pass_volume(part, geometry.pixel_size, resolution) for part in (volume, drawn))
    noise = symmetrize_volume(noise, group)
    odd, even = rfft3(noise - inverted(noise)), rfft3(smooth)
    shells = shell_indices((geometry.n,) * 3, volume.device)
    wanted, given = (shell_average(part.real**2 + part.imag**2, shells, geometry.n) for part in (even, odd))
    strength = (wanted / given.clamp(min=1e-6 * float(given.max()))).sqrt()[shells.clamp(max=geometry.n // 2)]
    return smooth + HAND_SHARE * irfft3(odd * strength, (geometry.n,) * 3) * solvent


def gather_slices(slices: Slices, disc: FourierDisc, number: int, n: int, operators: Float[Tensor, "g 3 3"]) -> Sums:
    """Completed, symmetrised sums of one class, up to the disc's radius."""
    radius = float(disc.points.norm(dim=-1).max())
    sum_, weight_ = empty_sums(cropped_side(radius, 2, n), slices.sums.device)
    own = slices.classes == number
    if own.any():
        half = disc.weights / 2
        insert_points_(sum_, weight_, slices.sums[own] * half, slices.weights[own] * half, slices.rotations[own], disc.points)
    return symmetrise_sums(*completed(sum_, weight_), operators)


def blend(old: Sums | None, new: Sums, share: float) -> Sums:
    """(1 - share) old + share new; the larger frequency range of the two."""
    if old is None or share >= 1:
        return new
    side = max(old[0].shape[0], new[0].shape[0])
    total, weight = (
        (1 - share) * resize_spectrum3(before, side) + share * resize_spectrum3(after, side) for before, after in zip(old, new, strict=True)
    )
    return total, weight


def added(parts: list[Sums]) -> Sums:
    """Sum of some sums; the largest frequency range."""
    side = max(part[0].shape[0] for part in parts)
    totals, weights = ([resize_spectrum3(part[which], side) for part in parts] for which in (0, 1))
    return torch.stack(totals).sum(0), torch.stack(weights).sum(0)


def solve(
    sums: Sums,
    n: int,
    radius: float,
    solvent: Float[Tensor, "n n n"],
    non_negative: bool,
    correlation: Float[Tensor, " s"] | None = None,
) -> Float[Tensor, "n n n"]:
    """Volume from sums, its solvent at 0 and, with non_negative, nothing below.

    correlation: of each shell 0 ... n // 2 of the unfiltered volume with the truth, squared, for a Wiener filter.
    """
    share = PRIOR_SHARE if correlation is None else 1 / correlation.clamp(min=LEAST_CORRELATION) - 1
    volume = reconstruct(*sums, n, prior=share * shell_weights(sums[1], n).clamp(min=1e-20), radius=radius)
    level = (volume * (1 - solvent)).sum() / (1 - solvent).sum()
    volume = (volume - level) * solvent
    return volume.clamp(min=0) if non_negative else volume


def agreement(halves: tuple[Sums, Sums], n: int, radius: float, solvent: Float[Tensor, "n n n"]) -> Float[Tensor, " s"]:
    """Squared correlation of the sum of two halves with the truth in each shell 0 ... n // 2, from that between the halves.

    Particles of both halves were posed by the same volumes, so it is an upper bound.
    """
    first, second = (reconstruct(*half, n, radius=radius) * solvent for half in halves)
    return full_correlation(fsc(first, second).clamp(min=0))


def degree_parts(volume: Float[Tensor, "n n n"], highest: int) -> Float[Tensor, "l n n n"]:
    """Parts of a volume of angular degree 0 ... highest about the origin `n // 2`, shell by shell of whole radii.

    The part of degree l is the projection on the spherical harmonics of that degree: the shell convolved with
    (2 l + 1) / (4 pi) P_l, by the addition theorem, with all voxels of a shell weighing the same.
    """
    n = volume.shape[-1]
    axis = torch.arange(n, device=volume.device) - n // 2
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3).to(volume.dtype)
    shells = points.norm(dim=-1).round().long()
    flat, parts = volume.flatten(), volume.new_zeros(highest + 1, volume.numel())
    for shell in range(1, (n - 1) // 2 + 1):
        inside = (shells == shell).nonzero()[:, 0]
        directions = torch.nn.functional.normalize(points[inside], dim=-1)
        parts[:, inside] = _shell_parts(directions @ directions.T, flat[inside], highest)
    return parts.reshape(highest + 1, *volume.shape)


def _shell_parts(cosines: Float[Tensor, "v v"], values: Float[Tensor, " v"], highest: int) -> Float[Tensor, "l v"]:
    """Parts of each degree of values on a sphere, by Bonnet's recursion for the Legendre polynomials."""
    before, current, parts = torch.ones_like(cosines), cosines, [values.mean().expand(len(values))]
    for degree in range(1, highest + 1):
        parts.append((2 * degree + 1) / len(values) * (current @ values))
        before, current = current, ((2 * degree + 1) * cosines * current - degree * before) / (degree + 1)
    return torch.stack(parts)


def opposites(volume: Float[Tensor, "n n n"]) -> list[tuple[str, Float[Tensor, "n n n"]]]:
    """The volume with the sign of its strongest angular degree turned round, of the second strongest, and of both, with names."""
    parts = degree_parts(volume, HIGHEST_DEGREE)
    power = parts.square().sum((1, 2, 3))
    power[:2] = 0
    first, second = power.topk(2).indices.tolist()
    turned = [(f"degree {first}", (first,)), (f"degree {second}", (second,)), (f"degrees {first}, {second}", (first, second))]
    return [(name, volume - 2 * parts[list(degrees)].sum(0)) for name, degrees in turned]


def centring_move(volume: Float[Tensor, "n n n"], free: tuple[bool, bool, bool]) -> tuple[int, int, int]:
    """Whole pixels zyx that bring the centre of mass of the volume's dense part to the origin, along the free axes."""
    n = volume.shape[-1]
    dense = torch.where(volume > 0.3 * volume.max(), volume, torch.zeros_like(volume))
    axis = (torch.arange(n, device=volume.device) - n // 2).to(volume.dtype)
    total = dense.sum().clamp(min=1e-30)
    centre = [float((dense.sum(others) * axis).sum() / total) for others in ((1, 2), (0, 2), (0, 1))]
    z, y, x = (-round(value) if allowed else 0 for value, allowed in zip(centre, free, strict=True))
    return z, y, x


def moved(sums: Sums, n: int, move: tuple[int, int, int]) -> Sums:
    """Sums of the volume moved by whole pixels zyx."""
    d = sums[0].shape[0]
    steps = frequencies3((d, d, d), sums[0].device) * (d / (2 * n))
    return sums[0] * shift_phases(steps, torch.tensor(move, dtype=steps.dtype, device=steps.device)), sums[1]


def free_axes(group: str) -> tuple[bool, bool, bool]:
    """Axes (z, y, x) along which a point group leaves the origin free."""
    if group.upper() == "C1":
        return True, True, True
    return (True, False, False) if group.upper().startswith("C") else (False, False, False)
