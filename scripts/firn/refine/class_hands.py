"""One hand for all classes: images tell a molecule from its mirror image in no way, so that each class comes out in either by chance.

Convention: inverted(r) = volume(-r) about the origin n // 2. Inversion commutes with rotations, so that the axes of a point group stay.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from firn.kernels.align_volumes import align


def inverted(volume: Float[Tensor, "n n n"]) -> Float[Tensor, "n n n"]:
    """The other hand; of even sizes the first plane of each axis, which has no counterpart, stays in its place."""
    return torch.roll(volume.flip(0, 1, 2), (1 - volume.shape[0] % 2,) * 3, (0, 1, 2))


def inverted_rotations(rotations: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3 3"]:
    """Poses whose projections of the inverted volume are those of the volume: R' = -R diag(-1, 1, 1), half a turn in the image plane."""
    return rotations * rotations.new_tensor([1.0, -1.0, -1.0])


def other_hands(volumes: Sequence[Float[Tensor, "n n n"]], reference: int, radius: float) -> Bool[Tensor, " k"]:
    """Which volumes resemble the reference, one of them, better when inverted; up to a Fourier radius (units of 1/n)."""
    other = torch.zeros(len(volumes), dtype=torch.bool)
    for number, volume in enumerate(volumes):
        if number != reference and volume.any():
            same, turned = (align(hand, volumes[reference], radius).correlation for hand in (volume, inverted(volume)))
            other[number] = turned > same
    return other
