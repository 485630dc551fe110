"""Whether a map's particles are seen from one side: the share of the views that lie in one narrow cone."""

from pathlib import Path

import numpy as np

from firn.live import layout
from firn.live.streams import group_order

MOST = 0.5
"""Share of the particles in one cone that raises an alarm."""
EVEN = 0.03
"""Share of the asymmetric unit of directions that the cone takes, which even views would have in it."""
SAMPLE = 2000


def views_sentence(job: str, folder: Path) -> str:
    """A sentence when more than half of a round's particles are seen from about one direction; nothing otherwise."""
    if not (folder / "particles.star").exists():
        return ""
    from firn.formats.tables import read_table  # slow to import, and wanted once per round

    table = read_table(folder / "particles.star", "particles")
    if not {"rot", "tilt"} <= set(table.columns) or len(table) < 2:
        return ""
    symmetry = str(layout.read_json(folder / "job.json", {}).get("settings", {}).get("symmetry", "C1"))
    share = largest_share(table["rot"].to_numpy(), table["tilt"].to_numpy(), group_order(symmetry))
    if share <= MOST:
        return ""
    return f"{100 * share:.0f} % of the particles of {job} are seen from about one direction; tilt the stage, or change the grid or the ice"


def largest_share(rot: np.ndarray, tilt: np.ndarray, order: int) -> float:
    """Largest share of views (angles in degrees) in a cone about one of them; opposite views count as one. order: of the point group.

    At most SAMPLE views, evenly taken, are looked at.
    """
    rows = np.linspace(0, len(rot) - 1, min(len(rot), SAMPLE)).astype(int)
    a, b = np.deg2rad(rot[rows]), np.deg2rad(tilt[rows])
    views = np.stack((np.sin(b) * np.cos(a), np.sin(b) * np.sin(a), np.cos(b)), axis=1)
    near = np.abs(views @ views.T) >= 1 - 2 * EVEN / order
    return float(near.mean(axis=1).max())
