"""Angular orders of image spectra on rings: what turning an image multiplies by a phase.

Convention: order k of ring r is the mean over the ring's angles phi of `exp(-i k phi)` times the value at the frequency of radius r and
angle phi, times the root of r, so that sums over rings weigh areas alike. Turning an image by psi, as `rotate2d` does, multiplies order k
by `exp(i k psi)`. Negative orders of a real image follow from the others and are left out.
Source: Zhao, Shkolnisky & Singer, IEEE Trans. Comput. Imaging 2, 1 (2016).
"""

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import fast_size, ring_orders, ring_values
from firn.kernels.rotate2d import add_rotated, read_rotated

IMAGES_AT_ONCE = 64
PAD = 2
EDGE = 2
ELEMENTS_AT_ONCE = 2**22


def angles_for(radius: int, extent: float, device: torch.device | str = "cpu") -> Float[Tensor, " m"]:
    """Angles in degrees that tell the orders of a ring apart: a power of two, for an image that fills `extent` radians per unit frequency."""
    count = 1 << math.ceil(math.log2(2 * (radius * extent + 4)))
    return torch.arange(count, device=device) * (360 / count)


def angular_orders(
    spectra: Complex[Tensor, "b f"], points: Float[Tensor, "f 2"], radius: int, angles: Float[Tensor, " m"]
) -> Complex[Tensor, "b k r"]:
    """Orders 0 ... m / 2 - 1 on rings 1 ... radius of spectra at the points of a half disc, yx frequencies in units of 1/n.

    Rings are interpolated: the outermost ones need a disc that is EDGE wider.
    """
    side = fast_size(2 * math.ceil(float(points.abs().max())) + 4)
    straight = torch.zeros(1, device=points.device)
    rings = torch.arange(1, radius + 1, device=points.device).float()
    ray = torch.stack((torch.zeros_like(rings), rings), dim=-1)
    parts = []
    for some in spectra.split(IMAGES_AT_ONCE):
        images = add_rotated(some[:, None], straight, points, side, PAD) * (2 / side**2)
        parts.append(ring_orders(read_rotated(images, angles, ray, PAD).transpose(1, 2)).transpose(1, 2))
    return torch.cat(parts) * rings.sqrt()


def noise_covariance(mask: Float[Tensor, "n n"], radius: int, angles: Float[Tensor, " m"]) -> Float[Tensor, "k r r"]:
    """Covariance between rings of the orders of white noise of unit variance times a round mask, for spectra divided by n.

    Values at two frequencies are correlated by the spectrum of the squared mask at their distance.
    """
    n = mask.shape[-1]
    rings = torch.arange(1, radius + 1, device=mask.device).double()
    turn = torch.deg2rad(angles.double())
    distance = (
        (rings[:, None, None] ** 2 + rings[:, None] ** 2 - 2 * rings[:, None, None] * rings[:, None] * turn.cos()).clamp(min=0).sqrt()
    )
    profile = mask.double().square().sum(0) / n**2
    axis = (torch.arange(n, device=mask.device) - n // 2) * (2 * math.pi / n)
    alike = torch.stack([torch.cos(row[..., None] * axis) @ profile for row in distance])
    orders = ring_orders(alike).real
    return (orders * (rings[:, None] * rings).sqrt()[..., None]).permute(2, 0, 1).float()


def best_turns(
    references: Complex[Tensor, "c k q"], images: Complex[Tensor, "b k q"], count: int
) -> tuple[Float[Tensor, "b c"], Int[Tensor, "b c"]]:
    """(greatest product of each image with each reference turned by some of `count` even angles; the number of that angle).

    Both hold orders 0, 1, ... of some components, those from order one on times the root of two, so that a product is a sum over all orders.
    """
    parts = []
    for some in images.split(max(1, ELEMENTS_AT_ONCE // (len(references) * count))):
        products = torch.einsum("ckq,bkq->bck", references, some.conj())
        parts.append(ring_values(products, count).max(-1))
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def turned_by(images: Complex[Tensor, "b k q"], angles: Float[Tensor, " b"]) -> Complex[Tensor, "b k q"]:
    """Images by their orders, each turned by an angle in degrees."""
    orders = torch.arange(images.shape[1], device=images.device)
    return images * torch.exp(1j * torch.deg2rad(angles)[:, None] * orders)[..., None]
