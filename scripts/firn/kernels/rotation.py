"""Rotations. `r_volume = R r_image`, `R = Rz(rot) Ry(tilt) Rz(psi)` in xyz: the transpose of RELION's Euler matrix.

Points and frequencies are zyx inside firn, so the public functions return matrices for zyx vectors.
"""

import torch
from torch import Tensor


def euler_matrices(angles: Tensor) -> Tensor:
    """Matrices `(*b, 3, 3)` for zyx column vectors from angles `(*b, 3)` = (rot, tilt, psi) in degrees."""
    return torch.flip(_euler_xyz(angles), dims=(-2, -1))


def matrix_angles(matrices: Tensor) -> Tensor:
    """Angles `(*b, 3)` = (rot, tilt, psi) in degrees of zyx matrices `(*b, 3, 3)`, tilt in [0, 180]; inverse of euler_matrices."""
    m = torch.flip(matrices, dims=(-2, -1)).double()
    tilt = torch.acos(m[..., 2, 2].clamp(-1, 1))
    upright = torch.sin(tilt).abs() < 1e-6
    rot = torch.where(upright, torch.zeros_like(tilt), torch.atan2(m[..., 1, 2], m[..., 0, 2]))
    psi_general = torch.atan2(m[..., 2, 1], -m[..., 2, 0])
    psi_upright = torch.atan2(m[..., 1, 0], m[..., 1, 1])
    psi = torch.where(upright, psi_upright, psi_general)
    return torch.rad2deg(torch.stack((rot, tilt, psi), dim=-1)).to(matrices.dtype)


def rotation_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle `(*b)` in degrees between rotations given as matrices `(*b, 3, 3)`."""
    trace = torch.einsum("...ij,...ij->...", first.double(), second.double())
    return torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))


def random_rotations(count: int, generator: torch.Generator) -> Tensor:
    """Uniform random zyx rotation matrices `(count, 3, 3)`, float32 (Shoemake 1992: normalised Gaussian quaternions)."""
    q = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator, device=generator.device), dim=-1)
    w, x, y, z = q.unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(count, 3, 3)


def _euler_xyz(angles: Tensor) -> Tensor:
    rot, tilt, psi = torch.deg2rad(angles).unbind(-1)
    return _about_z(rot) @ _about_y(tilt) @ _about_z(psi)


def _about_z(angle: Tensor) -> Tensor:
    c, s, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack((c, -s, zero, s, c, zero, zero, zero, one), dim=-1).reshape(*angle.shape, 3, 3)


def _about_y(angle: Tensor) -> Tensor:
    c, s, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack((c, zero, s, zero, one, zero, -s, zero, c), dim=-1).reshape(*angle.shape, 3, 3)
