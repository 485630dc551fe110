"""Equivalent poses of a particle whose map is symmetric: for every operator S with V(S r) = V(r), S R fits as well as R.

Convention: zyx matrices, `r_volume = R r_image`; shifts yx, added to the image to centre the particle. A helix has its axis on z and
V(Rz(twist) r + rise z) = V(r); a positive twist with a positive rise is a right-handed helix.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.rotation import euler_matrices


def expand_rotations(rotations: Float[Tensor, "n 3 3"], operators: Float[Tensor, "g 3 3"]) -> Float[Tensor, "n g 3 3"]:
    """All poses equivalent to each under a point group; shifts stay as they are, for its axes meet in the origin."""
    return torch.einsum("gij,njk->ngik", operators.to(rotations), rotations)


def helical_poses(
    rotations: Float[Tensor, "n 3 3"], shifts: Float[Tensor, "n 2"], twist: float, rise: float, copies: int
) -> tuple[Float[Tensor, "n c 3 3"], Float[Tensor, "n c 2"]]:
    """Poses after 0, 1, -1, 2, -2 ... steps along a helix: rotations and shifts; rise in the unit of the shifts, twist in degrees.

    P_R(x) = P_SR(x + s) with s the projection of the steps' rise, so shifts grow by s.
    """
    steps = torch.tensor([(-1) ** (k + 1) * ((k + 1) // 2) for k in range(copies)], dtype=rotations.dtype, device=rotations.device)
    zero = torch.zeros_like(steps)
    turns = euler_matrices(torch.stack((steps * twist, zero, zero), dim=-1))
    along = rotations[:, 0, 1:] * rise
    return expand_rotations(rotations, turns), shifts[:, None] + steps[None, :, None] * along[:, None]


def carried_poses(
    rotations: Float[Tensor, "n 3 3"], shifts: Float[Tensor, "n 2"], rotation: Float[Tensor, "3 3"], shift: Float[Tensor, " 3"]
) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n 2"]]:
    """Poses of the same images after their map V was moved to A(r) = V(rotation (r - shift)); all shifts in one unit."""
    turned = rotation.to(rotations).T @ rotations
    return turned, shifts + torch.einsum("nij,i->nj", turned, shift.to(rotations))[:, 1:]
