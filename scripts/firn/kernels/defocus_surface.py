"""Defocus over one micrograph as a plane and a bend about its mean.

Convention: with u = 2 x / (width - 1) - 1 and v = 2 y / (height - 1) - 1 in [-1, 1], the local defocus is the fitted mean plus
slope_x u + slope_y v + bend_xx (u^2 - 1/3) + bend_xy u v + bend_yy (v^2 - 1/3) in Å, coefficients in that order; every term
has mean zero over the micrograph. Points are yx.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

NAMES = ("defocus_slope_x", "defocus_slope_y", "defocus_bend_xx", "defocus_bend_xy", "defocus_bend_yy")


def surface_basis(points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 5"]:
    """The five terms of the surface at normalised points yx, in the order of NAMES."""
    v, u = points.unbind(-1)
    return torch.stack((u, v, u * u - 1 / 3, u * v, v * v - 1 / 3), dim=-1)


def surface_offset(coefficients: Float[Tensor, "*b 5"], points: Float[Tensor, "n 2"]) -> Float[Tensor, "*b n"]:
    """Defocus offsets in Å at normalised points yx, to be added to both defocus_u and defocus_v."""
    return coefficients @ surface_basis(points).to(coefficients.dtype).mT


def normalised_points(x_px: Float[Tensor, "n"], y_px: Float[Tensor, "n"], width: int, height: int) -> Float[Tensor, "n 2"]:
    """Pixel coordinates (0-based column and row) of a micrograph `(height, width)` as points yx in [-1, 1]."""
    return torch.stack((2 * y_px / max(height - 1, 1) - 1, 2 * x_px / max(width - 1, 1) - 1), dim=-1)


def specimen_tilt(coefficients: Sequence[float], shape: tuple[int, int], pixel_size: float) -> tuple[float, float]:
    """(tilt in [0, 90), axis in (-180, 180]) in degrees of the surface's plane over a micrograph `(height, width)`.

    The axis lies at an angle from +x towards +y (increasing row); defocus grows along the axis turned by +90 degrees.
    A surface without slope has tilt 0 and axis 0.
    """
    along_x, along_y = (2 * value / (max(side - 1, 1) * pixel_size) for value, side in zip(coefficients[:2], shape[::-1], strict=True))
    steepness = math.hypot(along_x, along_y)
    return math.degrees(math.atan(steepness)), math.degrees(math.atan2(-along_x, along_y)) if steepness else 0.0
