"""The Fourier disc: the frequencies of an image spectrum that a computation at a given resolution needs.

Convention: points are yx frequencies in units of 1/n (integers on the grid of an image of side n); the half plane of the
rfft layout, zero frequency first; a sum over the disc with the returned weights is a sum over the whole plane.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class FourierDisc:
    """Points of the half plane inside a radius."""

    points: Float[Tensor, "m 2"]
    """yx frequencies in units of 1/n."""
    index: Int[Tensor, " m"]
    """Positions in the flattened rfft layout `(n, n // 2 + 1)`."""
    weights: Float[Tensor, " m"]
    """1 for points that are their own mirror or whose mirror is in the list, else 2."""
    shells: Int[Tensor, " m"]
    """Nearest integer radius."""

    def within(self, wider: "FourierDisc") -> Int[Tensor, " m"]:
        """Where these points stand in a wider disc of the same image."""
        return torch.searchsorted(wider.index, self.index)


def fourier_disc(n: int, radius: float, device: torch.device | str = "cpu") -> FourierDisc:
    """Half-plane points with `|k| <= radius` (units of 1/n) of an image of side n, in the order of the rfft layout.

    The unpaired Nyquist row and column of an even side are left out, for their values are not those of one frequency.
    """
    half = (n - 1) // 2
    y = torch.arange(n, device=device)
    y = torch.where(y > half, y - n, y).float()
    x = torch.arange(n // 2 + 1, device=device).float()
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
    norms = grid.norm(dim=-1)
    inside = (norms <= radius) & (grid.abs() <= half).all(dim=-1)
    index = inside.flatten().nonzero().squeeze(-1)
    points = grid.reshape(-1, 2)[index]
    weights = torch.where(points[:, 1] == 0, 1.0, 2.0)
    return FourierDisc(points, index, weights, norms.flatten()[index].round().long())


def shell_sums(values: Float[Tensor, "*b m"], shells: Int[Tensor, " m"], count: int) -> Float[Tensor, "*b s"]:
    """Sums of values over shells 0 ... count - 1."""
    out = values.new_zeros(*values.shape[:-1], count)
    return out.index_add(-1, shells, values)


def ball_shells(n: int, device: torch.device | str = "cpu") -> Int[Tensor, "n n h"]:
    """Nearest integer radius, in units of 1/n, of every point of the rfft layout of a volume of side n."""
    full = torch.arange(n, device=device)
    full = torch.where(full > (n - 1) // 2, full - n, full).float()
    half = torch.arange(n // 2 + 1, device=device).float()
    squares = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half**2
    return squares.sqrt().round().long()


def layout_points(d: int, device: torch.device | str = "cpu") -> Float[Tensor, "d d h 3"]:
    """Frequencies zyx of an rfft-shaped cube of side d, in units of 1/d."""
    full = torch.arange(d, device=device)
    full = torch.where(full > (d - 1) // 2, full - d, full).float()
    half = torch.arange(d // 2 + 1, device=device).float()
    return torch.stack(torch.meshgrid(full, full, half, indexing="ij"), dim=-1)
