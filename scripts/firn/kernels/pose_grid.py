"""A nested grid of rotations: HEALPix directions times in-plane angles, each cell split into eight at the next order.

Convention: order k has 12 * 4^k directions (nested numbering) and 6 * 2^k in-plane angles, about 60 / 2^k degrees apart;
node = direction * in_plane_count + in_plane. Rotations are zyx matrices, `r_volume = R r_image`. The in-plane angle is
counted from a frame that is smooth within each of the twelve base pixels, so that the eight children of a node lie
around it, at the poles too.
Source: Gorski et al., Astrophys. J. 622, 759 (2005), section 5 (faces and their projection).
"""

import functools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from firn.kernels.rotation import euler_matrices
from firn.kernels.symmetry import in_asymmetric_unit

_FACE_ROW = (2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4)
_FACE_COLUMN = (1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7)
_FRAME_TURN = (-1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1)


def grid_step(order: int) -> float:
    """Angular step in degrees."""
    return 60.0 / 2**order


def in_plane_count(order: int) -> int:
    """Number of in-plane angles."""
    return 6 * 2**order


def all_nodes(order: int, group: str = "C1", device: torch.device | str = "cpu") -> Int[Tensor, " g"]:
    """Nodes whose viewing direction lies in one asymmetric unit of the group."""
    directions = torch.arange(12 * 4**order, device=device)
    angles = direction_angles(directions, order)
    upright = torch.cat((angles, torch.zeros(len(angles), 1, device=device, dtype=angles.dtype)), dim=-1)
    kept = directions[in_asymmetric_unit(euler_matrices(upright)[:, :, 0].cpu(), group).to(device)]
    count = in_plane_count(order)
    return (kept[:, None] * count + torch.arange(count, device=device)).flatten()


def child_nodes(nodes: Int[Tensor, "*b"], order: int) -> Int[Tensor, "*b 8"]:
    """The eight nodes of order + 1 inside each node's cell."""
    count = in_plane_count(order)
    steps = torch.arange(8, device=nodes.device)
    directions = 4 * (nodes // count)[..., None] + steps // 2
    return directions * (2 * count) + 2 * (nodes % count)[..., None] + steps % 2


def finer_nodes(nodes: Int[Tensor, " g"], order: int) -> Int[Tensor, " h"]:
    """All children, sorted, of sorted nodes that hold every in-plane angle of their directions."""
    directions = nodes[:: in_plane_count(order)] // in_plane_count(order)
    children = (4 * directions[:, None] + torch.arange(4, device=nodes.device)).flatten()
    count = in_plane_count(order + 1)
    return (children[:, None] * count + torch.arange(count, device=nodes.device)).flatten()


def node_rotations(nodes: Int[Tensor, "*b"], order: int) -> Float[Tensor, "*b 3 3"]:
    """Rotation at the centre of each node's cell, float32."""
    count = in_plane_count(order)
    directions = nodes // count
    angles = direction_angles(directions, order)
    in_plane = (nodes % count + 0.5) * (360.0 / count) + _frame_turn(directions, order) * angles[..., 0]
    return euler_matrices(torch.cat((angles, in_plane[..., None]), dim=-1)).float()


def nearby_nodes(rotations: Float[Tensor, "b 3 3"], order: int, directions: int = 9, in_plane: int = 3) -> Int[Tensor, "b k"]:
    """The nodes around each rotation: those of its nearest directions with the nearest in-plane angles of each."""
    angles, frames = _frames(order, rotations.device)
    nearest = (rotations[:, :, 0] @ frames[:, :, 0].T).topk(directions, dim=-1).indices
    relative = torch.einsum("bkji,bjl->bkil", frames[nearest], rotations)
    psi = torch.rad2deg(torch.atan2(relative[..., 1, 2] - relative[..., 2, 1], relative[..., 1, 1] + relative[..., 2, 2]))
    turned = psi - _frame_turn(nearest, order) * angles[nearest, 0].float()
    count = in_plane_count(order)
    offsets = torch.arange(in_plane, device=rotations.device) - (in_plane - 1) / 2
    cells = torch.floor((turned * (count / 360))[..., None] + offsets).long() % count
    return (nearest[..., None] * count + cells).flatten(1)


def direction_angles(directions: Int[Tensor, "*b"], order: int) -> Float[Tensor, "*b 2"]:
    """(rot, tilt) in degrees, float64, of HEALPix pixels in nested numbering."""
    side = 2**order
    face, within = directions // side**2, directions % side**2
    x, y = ((_even_bits(within >> shift, order) + 0.5) / side for shift in (0, 1))
    row = torch.tensor(_FACE_ROW, device=directions.device, dtype=torch.float64)[face] - x - y
    reach = torch.where(row < 1, row, torch.where(row > 3, 4 - row, torch.ones_like(row)))
    cap = 1 - reach**2 / 3
    height = torch.where(row < 1, cap, torch.where(row > 3, -cap, (2 - row) * (2 / 3)))
    column = torch.tensor(_FACE_COLUMN, device=directions.device, dtype=torch.float64)[face]
    rot = 45.0 * (column * reach + x - y) / reach
    return torch.stack((rot % 360.0, torch.rad2deg(torch.acos(height))), dim=-1)


@functools.lru_cache(maxsize=2)
def _frames(order: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(rot, tilt) in degrees and rotations with no in-plane angle of all directions of a grid."""
    angles = direction_angles(torch.arange(12 * 4**order, device=device), order)
    return angles, euler_matrices(torch.cat((angles, torch.zeros_like(angles[:, :1])), dim=-1)).float()


def _even_bits(numbers: Tensor, order: int) -> Tensor:
    bits = [((numbers >> (2 * bit)) & 1) << bit for bit in range(order)]
    return sum(bits, torch.zeros_like(numbers)).double()


def _frame_turn(directions: Tensor, order: int) -> Tensor:
    return torch.tensor(_FRAME_TURN, device=directions.device, dtype=torch.float64)[directions // 4**order]
