"""Point groups: rotations that map a symmetric volume onto itself.

Convention: matrices act on zyx column vectors; axes as in RELION's `--sym`: Cn and Dn have the n-fold axis on z, Dn a
two-fold on x; T has a three-fold on z; O has four-folds on x, y, z; I1 and I2 have two-folds on x, y, z and a five-fold in
the xz plane nearer to x (I1) or to z (I2, also called I); I3 and I4 have a five-fold on z and a second one at -x (I3) or +x (I4).
"""

import functools
import math
import re

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from firn.errors import InputError
from firn.kernels.fourier import resize_volumes

_GOLDEN = (1 + math.sqrt(5)) / 2
_MAX_ORDER = 60
_GENERATORS: dict[str, tuple[tuple[int, tuple[float, float, float]], ...]] = {
    "T": ((3, (0, 0, 1)), (2, (0, math.sqrt(2), 1))),
    "O": ((4, (0, 0, 1)), (3, (1, 1, 1))),
    "I1": ((3, (1, 1, 1)), (5, (_GOLDEN, 0, 1))),
    "I2": ((3, (1, 1, 1)), (5, (1, 0, _GOLDEN))),
    "I3": ((5, (0, 0, 1)), (5, (-2, 0, 1))),
    "I4": ((5, (0, 0, 1)), (5, (2, 0, 1))),
}
_REFERENCE = (0.7431, 0.1923, 0.6409)
"""A direction zyx on no symmetry axis or mirror plane of any group; its Voronoi cell is the asymmetric unit."""


def symmetry_matrices(group: str) -> Float[Tensor, "g 3 3"]:
    """All rotations of a point group, float64, identity first; Cn, Dn, T, O, I (= I2), I1, I2, I3, I4.

    Raises InputError for any other name.
    """
    elements = [torch.eye(3, dtype=torch.float64)]
    generators = [_rotation_xyz(fold, axis) for fold, axis in _generators(group)]
    for element in elements:
        for generator in generators:
            product = generator @ element
            if (torch.stack(elements) - product).abs().amax(dim=(1, 2)).min() > 1e-6:
                elements.append(product)
    return torch.flip(torch.stack(elements), dims=(-2, -1))


def group_order(group: str) -> int:
    """Number of rotations of a point group."""
    return len(symmetry_matrices(group))


def group_factors(operators: Float[Tensor, "g 3 3"]) -> list[Float[Tensor, "k 3 3"]]:
    """Sets of rotations whose products, one of each set in this order, are the operators of a group, each once.

    Averaging over one set after the other averages over the group. Rotations that only permute axes make the first sets; what they
    do not make comes in one set, so that interpolation happens once.
    """
    return [factor.to(operators) for factor in _factors(tuple(operators.double().flatten().tolist()))]


def symmetrize_volume(volume: Float[Tensor, "n n n"], group: str, oversampling: int = 2) -> Float[Tensor, "n n n"]:
    """Average of a volume over the rotations of a group about its origin `n // 2`.

    Interpolated trilinearly on a Fourier-oversampled copy, so that little resolution is lost. Rotations that only permute
    axes need no interpolation.
    """
    matrices = symmetry_matrices(group).to(volume)
    if len(matrices) == 1:
        return volume
    n = volume.shape[-1]
    fine = resize_volumes(volume, oversampling * n)
    points = _centred_grid(n, volume.device).to(volume.dtype)
    turned = (_sample(fine[None], oversampling * points @ matrix, oversampling * n // 2)[0] for matrix in matrices)
    return sum(turned, start=torch.zeros_like(volume)) / len(matrices)


def symmetrize_spectrum(spectrum: Shaped[Tensor, "n n m"], group: str) -> Shaped[Tensor, "n n m"]:
    """Average over a group of an rfft half spectrum `(n, n, n // 2 + 1)`, zero frequency first, complex or real.

    A real one (weights of a back-projection) is taken as symmetric, w(-k) = w(k). Trilinear, and zero beyond Nyquist.
    """
    matrices = symmetry_matrices(group).to(spectrum.device, torch.float32)
    if len(matrices) == 1:
        return spectrum
    n = spectrum.shape[0]
    channels = _full_spectrum(spectrum)
    axis = torch.arange(-(n // 2), n - n // 2, device=spectrum.device)
    axis = torch.roll(axis, -(n // 2))
    half = torch.arange(n // 2 + 1, device=spectrum.device)
    points = torch.stack(torch.meshgrid(axis, axis, half, indexing="ij"), dim=-1).float()
    turned = (_sample(channels, points @ matrix, n // 2) for matrix in matrices)
    total = sum(turned, start=channels.new_zeros(len(channels), *points.shape[:-1])) / len(matrices)
    return torch.complex(total[0], total[1]) if spectrum.is_complex() else total[0].to(spectrum.dtype)


def in_asymmetric_unit(directions: Float[Tensor, "*b 3"], group: str) -> Bool[Tensor, "*b"]:
    """Whether each direction (zyx unit vectors) is its orbit's representative: the one nearest to a fixed general direction."""
    reference = torch.tensor(_REFERENCE, dtype=torch.float64, device=directions.device)
    images = symmetry_matrices(group).to(directions.device) @ reference
    closeness = directions.double() @ images.T
    return closeness[..., 0] >= closeness.amax(-1) - 1e-6


@functools.lru_cache(maxsize=4)
def _factors(numbers: tuple[float, ...]) -> list[Tensor]:
    """group_factors of a group whose matrices' numbers these are."""
    operators = torch.tensor(numbers, dtype=torch.float64).reshape(-1, 3, 3)
    exact = [one for one in operators if float((one - one.round()).abs().max()) < 1e-6]
    done, factors = [torch.eye(3, dtype=torch.float64)], []
    while len(done) < len(exact):
        larger = min((_closure([*done, one]) for one in exact if not _holds(done, one)), key=len)
        factors.append(_transversal(done, larger))
        done = larger
    if len(done) < len(operators):
        factors.append(_transversal(done, list(operators)))
    return factors


def _closure(elements: list[Tensor]) -> list[Tensor]:
    """All products of rotations that generate a finite group."""
    found = list(elements)
    for element in found:
        found += [product for one in elements if not _holds(found, product := element @ one)]
    return found


def _transversal(subgroup: list[Tensor], group: list[Tensor]) -> Tensor:
    """Elements `(k, 3, 3)` whose products with those of a subgroup, the subgroup's first, are the group, each once."""
    found: list[Tensor] = []
    covered: list[Tensor] = []
    for element in [subgroup[0], *group]:
        if not _holds(covered, element):
            found.append(element)
            covered += [one @ element for one in subgroup]
    return torch.stack(found)


def _holds(elements: list[Tensor], one: Tensor) -> bool:
    return bool(elements) and float((torch.stack(elements) - one).abs().amax(dim=(1, 2)).min()) < 1e-4


def _generators(group: str) -> tuple[tuple[int, tuple[float, float, float]], ...]:
    name = group.strip().upper()
    name = "I2" if name == "I" else name
    if name in _GENERATORS:
        return _GENERATORS[name]
    match = re.fullmatch(r"([CD])([1-9]\d?)", name)
    if not match or int(match[2]) > _MAX_ORDER:
        raise InputError(f"symmetry '{group}' is none of Cn, Dn (n up to {_MAX_ORDER}), T, O, I, I1, I2, I3, I4")
    fold = int(match[2])
    about_z = (fold, (0.0, 0.0, 1.0))
    return (about_z,) if match[1] == "C" else (about_z, (2, (1.0, 0.0, 0.0)))


def _rotation_xyz(fold: int, axis: tuple[float, float, float]) -> Tensor:
    """Rotation by 360 / fold degrees about an axis xyz (Rodrigues)."""
    x, y, z = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    angle = 2 * math.pi / fold
    return torch.eye(3, dtype=torch.float64) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _centred_grid(n: int, device: torch.device) -> Tensor:
    axis = torch.arange(n, device=device) - n // 2
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def _sample(channels: Tensor, points: Tensor, origin: int) -> Tensor:
    """Trilinear values `(c, *grid)` of `(c, n, n, n)` at zyx points counted from the origin; zero outside."""
    n = channels.shape[-1]
    xyz = torch.flip((points + origin) * (2 / (n - 1)) - 1, dims=(-1,))
    return torch.nn.functional.grid_sample(channels[None], xyz[None], align_corners=True)[0]


def _full_spectrum(spectrum: Tensor) -> Tensor:
    """Centred real channels `(c, k, k, k)`, k = 2 (n // 2) + 1, of a half spectrum; Nyquist stands on both sides."""
    n, half = spectrum.shape[0], spectrum.shape[0] // 2
    axis = torch.arange(-half, half + 1, device=spectrum.device)
    positive = spectrum[axis % n][:, axis % n]
    negative = torch.flip(positive[..., 1:], dims=(0, 1, 2))
    if not spectrum.is_complex():
        return torch.cat((negative, positive), dim=-1).float()[None]
    return torch.view_as_real(torch.cat((negative.conj(), positive), dim=-1)).movedim(-1, 0).float()
