"""Cubic B-splines on uniform knots over [0, 1], as small dense matrices; a field on a raster is a product of three of them.

Source: de Boor, A Practical Guide to Splines (1978); difference penalties: Eilers & Marx, Stat. Sci. 11, 89 (1996).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def cubic_basis(points: Float[Tensor, "n"], intervals: int) -> Float[Tensor, "n c"]:
    """Values at points in [0, 1] of the `intervals + 3` cubic B-splines; each row sums to 1."""
    position = points.clamp(0, 1) * intervals
    first = position.floor().clamp(max=intervals - 1)
    u = (position - first)[:, None]
    values = torch.cat(((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3), dim=1) / 6
    columns = first.long()[:, None] + torch.arange(4, device=points.device)
    return torch.zeros(len(points), intervals + 3, dtype=points.dtype, device=points.device).scatter(1, columns, values)


def difference_penalty(count: int, order: int) -> Float[Tensor, "count count"]:
    """`D^T D` (float64) of the order-th differences of count coefficients; zero when there are too few of them."""
    if count <= order:
        return torch.zeros(count, count, dtype=torch.float64)
    differences = torch.eye(count, dtype=torch.float64)
    for _ in range(order):
        differences = differences[1:] - differences[:-1]
    return differences.T @ differences


def separable_field(
    time: Float[Tensor, "f ct"], y: Float[Tensor, "h cy"], x: Float[Tensor, "w cx"], coefficients: Float[Tensor, "ct cy cx d"]
) -> Float[Tensor, "f h w d"]:
    """Values of a field with d components on the raster of times, rows and columns whose basis matrices are given."""
    in_time = torch.einsum("ft,tyxd->fydx", time, coefficients)
    in_rows = torch.einsum("hy,fydx->fdhx", y, in_time)
    return torch.matmul(in_rows, x.T).movedim(1, -1)
