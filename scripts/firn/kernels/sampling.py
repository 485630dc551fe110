"""Grids over which poses are searched: viewing directions (HEALPix) times in-plane angles, local rotations, shifts.

Convention: rotations are zyx matrices with `r_volume = R r_image`; order k has 12 * 4^k directions about 60 / 2^k degrees
apart and as fine an in-plane step, so order 1 is 30, 2 is 15, 3 is 7.5, 4 is 3.75 degrees.
Source: Gorski et al., Astrophys. J. 622, 759 (2005), section 5.1 (ring scheme).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from firn.kernels.rotation import euler_matrices
from firn.kernels.symmetry import in_asymmetric_unit


def healpix_angles(order: int) -> Float[Tensor, "p 2"]:
    """(rot, tilt) in degrees, float64, of the 12 * 4^order pixel centres in ring order."""
    side = 2**order
    z, phi = [], []
    for ring in range(1, 4 * side):
        in_cap = min(ring, 4 * side - ring)
        if in_cap < side:
            count, offset = 4 * in_cap, 0.5
            height = 1 - in_cap**2 / (3 * side**2)
            height = height if ring < 2 * side else -height
        else:
            count, offset = 4 * side, 0.5 * ((ring - side + 1) % 2)
            height = 4 / 3 - 2 * ring / (3 * side)
        z.append(torch.full((count,), height, dtype=torch.float64))
        phi.append((torch.arange(count, dtype=torch.float64) + offset) * (360 / count))
    return torch.stack((torch.cat(phi), torch.rad2deg(torch.acos(torch.cat(z)))), dim=-1)


def direction_grid(order: int, group: str = "C1") -> Float[Tensor, "d 2"]:
    """(rot, tilt) in degrees of the HEALPix directions in one asymmetric unit of the group."""
    angles = healpix_angles(order)
    upright = torch.cat((angles, torch.zeros(len(angles), 1, dtype=torch.float64)), dim=-1)
    directions = euler_matrices(upright)[:, :, 0]
    return angles[in_asymmetric_unit(directions, group)]


def spiral_directions(count: int, group: str = "C1") -> Float[Tensor, "d 2"]:
    """(rot, tilt) in degrees, float64, of `count` directions spread evenly over the sphere, those of one asymmetric unit.

    Source: the generalised spiral of Saff & Kuijlaars, Math. Intell. 19, 5 (1997), with the golden angle between neighbours.
    """
    index = torch.arange(count, dtype=torch.float64)
    rot = torch.remainder(index * 180 * (3 - math.sqrt(5)), 360)
    tilt = torch.rad2deg(torch.acos(1 - (2 * index + 1) / count))
    upright = torch.stack((rot, tilt, torch.zeros_like(rot)), dim=-1)
    kept = in_asymmetric_unit(euler_matrices(upright)[:, :, 0], group)
    return upright[kept if bool(kept.any()) else slice(0, 1), :2]


def rotation_grid(order: int, group: str = "C1") -> Float[Tensor, "p 3 3"]:
    """Rotations, float32, direction-major: the directions of one asymmetric unit times 6 * 2^order in-plane angles."""
    directions = direction_grid(order, group)
    in_plane = 6 * 2**order
    psi = torch.arange(in_plane, dtype=torch.float64) * (360 / in_plane)
    angles = torch.cat((directions.repeat_interleave(in_plane, 0), psi.repeat(len(directions))[:, None]), dim=-1)
    return euler_matrices(angles).float()


def local_rotations(step: float, radius: float) -> Float[Tensor, "k 3 3"]:
    """Small rotations, float32, on a cubic grid of rotation vectors `step` degrees apart within `radius` degrees; identity included."""
    reach = math.floor(radius / step + 1e-9)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64) * step
    vectors = torch.cartesian_prod(axis, axis, axis)
    return rotations_from_vectors(vectors[vectors.norm(dim=-1) <= radius + 1e-9])


def rotations_from_vectors(vectors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotations, float32, about zyx axis vectors by their length in degrees; right-handed about the axis in space."""
    z, y, x = torch.deg2rad(vectors.double()).unbind(-1)
    zero = torch.zeros_like(z)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).reshape(*z.shape, 3, 3)
    return torch.flip(torch.linalg.matrix_exp(cross), dims=(-2, -1)).float()


def shift_grid(reach_px: float, step_px: float) -> Float[Tensor, "t 2"]:
    """Shifts yx in pixels, float32, `step_px` apart within a disc of radius `reach_px`; zero included."""
    count = math.floor(reach_px / step_px + 1e-9)
    axis = torch.arange(-count, count + 1, dtype=torch.float32) * step_px
    shifts = torch.cartesian_prod(axis, axis).reshape(-1, 2)
    return shifts[shifts.norm(dim=-1) <= reach_px + 1e-6]
