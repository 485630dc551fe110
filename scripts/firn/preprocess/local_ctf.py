"""The CTF of each place in a micrograph, from the micrograph's own and its defocus surface.

Convention: as in kernels.defocus_surface; the surface adds to both defoci and leaves the astigmatism as it is.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from firn.kernels.defocus_surface import NAMES, normalised_points, surface_offset


def local_ctf(row: Mapping[Any, Any], x_px: np.ndarray, y_px: np.ndarray, width: int, height: int) -> dict[str, Any]:
    """Columns defocus_u, defocus_v (Å) at places of an exposure, with its angle and phase shift; nothing when it has no CTF.

    x_px, y_px: 0-based columns and rows of the micrograph `(height, width)`. Without a surface the exposure's own defocus.
    """
    if "defocus_u" not in row:
        return {}
    offset = np.zeros(len(x_px))
    if all(name in row and math.isfinite(float(row[name])) for name in NAMES):
        points = normalised_points(torch.from_numpy(x_px.astype(np.float64)), torch.from_numpy(y_px.astype(np.float64)), width, height)
        offset = surface_offset(torch.tensor([float(row[name]) for name in NAMES], dtype=torch.float64), points).numpy()
    constant = {name: row[name] for name in ("defocus_angle", "phase_shift") if name in row}
    return {"defocus_u": float(row["defocus_u"]) + offset, "defocus_v": float(row["defocus_v"]) + offset, **constant}
